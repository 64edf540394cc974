"""Strided convolutions that halve the image as often as possible.

DCGAN (Radford et al. 2016, arXiv:1511.06434).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Range, Width, check
from genjax.core import Keys, Tree
from genjax.nn.conv import BatchNorm, Conv, halvings
from genjax.nn.gans import _pyramid

Norm = Literal["none", "batch", "group"]


EQUALISED = False
"""Whether kernels are scaled at run time: their parameters are not what the layers apply."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure strided convolutions.

    Attributes:
      width: channels at the full resolution, doubled at each halving.
      kernel: side of the strided convolutions; an even number leaves no checkerboard.
      generator_norm, critic_norm: batch statistics look across rows, so that accumulated or sharded steps
        differ from whole ones; the other two do not.
    """

    width: Width = 32
    kernel: Annotated[int, Range(least=2, most=1024)] = 4
    generator_norm: Norm = "batch"
    critic_norm: Norm = "none"

    def __post_init__(self):
        check(self)
        if "group" in (self.generator_norm, self.critic_norm) and self.width % 8:
            raise ValueError(f"group norm has groups of 8 channels: width={self.width} is no multiple of 8")


class Normalise(nn.Module):
    """Apply the normalisation of this kind, or none."""

    kind: Norm

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"], train: bool) -> Float[Array, "*B C"]:
        if self.kind == "batch":
            return BatchNorm(name="batch")(x, train)
        if self.kind == "group":
            return nn.GroupNorm(num_groups=None, group_size=8, name="group")(x)
        return x


class Generator(nn.Module):
    """Map (z, condition) to an image in [-1, 1]."""

    config: Config
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool, keys: Keys | None = None
    ) -> Float[Array, "B H W C"]:
        c = self.config
        H, W, C = self.shape
        n = halvings(H, W)
        bias = c.generator_norm == "none"
        size = (H // 2**n, W // 2**n, c.width * 2**n)
        h = jnp.concatenate([z, condition], -1)
        h = nn.Dense(size[0] * size[1] * size[2], use_bias=bias, kernel_init=he, name="in")(h)
        h = nn.relu(Normalise(c.generator_norm, name="norm_in")(h.reshape(-1, *size), train))
        for i in reversed(range(n)):
            h = Conv(
                c.width * 2**i, c.kernel, 2, transpose=True, use_bias=bias, kernel_init=he, name=f"up_{i}"
            )(h)
            h = nn.relu(Normalise(c.generator_norm, name=f"norm_{i}")(h, train))
        return jnp.tanh(Conv(C, name="out")(h))


class Critic(nn.Module):
    """Map an image in [-1, 1] to features."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B F"]:
        c = self.config
        h = leaky(Conv(c.width, kernel_init=he, name="in")(x))
        bias = c.critic_norm == "none"
        for i in range(halvings(*x.shape[1:3])):
            h = Conv(c.width * 2 ** (i + 1), c.kernel, 2, use_bias=bias, kernel_init=he, name=f"down_{i}")(h)
            h = leaky(Normalise(c.critic_norm, name=f"norm_{i}")(h, train))
        return h.reshape(h.shape[0], -1)


he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def leaky(x: jax.Array) -> jax.Array:
    """Compute the leaky ReLU of slope 0.2 (Radford et al. 2016, sec. 3)."""
    return nn.leaky_relu(x, 0.2)


def fits(config: Config, shape: tuple[int, ...], classes: int, latent: int) -> None:
    """Refuse nothing: every config fits every image."""


def generator(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the generator of images of this shape.

    Raises:
      ConfigError: not images, or too small to be halved.
    """
    _pyramid.check("dcgan", shape)
    return Generator(config, shape)  # type: ignore[arg-type]


def critic(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the critic of images of this shape."""
    return Critic(config)


def normalises(config: Config) -> tuple[bool, bool]:
    """Return whether generator and critic look across rows."""
    return config.generator_norm == "batch", config.critic_norm == "batch"


def kernels(config: Config, params: Tree, latent: int) -> list[jax.Array]:
    """Return the kernel (Z, N) that reads z."""
    return [params["in"]["kernel"][:latent]]
