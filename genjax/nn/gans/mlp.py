"""Fully connected networks, for points and for small images."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Layers, Width, check
from genjax.core import Keys, Tree
from genjax.nn.conv import BatchNorm

EQUALISED = False
"""Whether kernels are scaled at run time: their parameters are not what the layers apply."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure fully connected networks.

    Attributes:
      width: of the hidden layers.
      depth: number of hidden layers.
      batch_norm: normalise the generator's hidden layers over the batch.
    """

    width: Width = 128
    depth: Layers = 3
    batch_norm: bool = False

    def __post_init__(self):
        check(self)


class Generator(nn.Module):
    """Map (z, condition) to rows: of points without bounds, of images in [-1, 1]."""

    config: Config
    shape: tuple[int, ...]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool, keys: Keys | None = None
    ) -> Float[Array, "B *shape"]:
        h = jnp.concatenate([z, condition], -1)
        for i in range(self.config.depth):
            h = nn.Dense(self.config.width, use_bias=not self.config.batch_norm, name=f"dense_{i}")(h)
            h = BatchNorm(name=f"norm_{i}")(h, train) if self.config.batch_norm else h
            h = nn.relu(h)
        x = nn.Dense(math.prod(self.shape), name="out")(h).reshape(-1, *self.shape)
        return jnp.tanh(x) if len(self.shape) == 3 else x


class Critic(nn.Module):
    """Map rows to features."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *shape"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B F"]:
        h = x.reshape(x.shape[0], -1)
        for i in range(self.config.depth):
            h = nn.leaky_relu(nn.Dense(self.config.width, name=f"dense_{i}")(h), 0.2)
        return h


def fits(config: Config, shape: tuple[int, ...], classes: int, latent: int) -> None:
    """Refuse nothing: every config fits every row."""


def generator(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the generator of rows of this shape."""
    return Generator(config, shape)


def critic(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the critic of rows of this shape."""
    return Critic(config)


def normalises(config: Config) -> tuple[bool, bool]:
    """Return whether generator and critic look across rows."""
    return config.batch_norm, False


def kernels(config: Config, params: Tree, latent: int) -> list[jax.Array]:
    """Return the kernel (Z, N) that reads z."""
    return [params["dense_0"]["kernel"][:latent]]
