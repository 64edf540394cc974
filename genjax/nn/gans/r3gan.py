"""R3GAN (Huang et al. 2024, arXiv:2501.05441): residual networks without normalisation.

A block is a 1x1, a grouped 3x3 and a 1x1 convolution, wider inside; its last one starts at zero. The networks
are stable with loss="relativistic" and both r1 and r2.
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Layers, Width, check
from genjax.core import Keys, Tree
from genjax.errors import ConfigError
from genjax.functional import resample
from genjax.nn.conv import Conv, halvings
from genjax.nn.gans import _pyramid

TAPS = (1.0, 2.0, 1.0)
GAIN = math.sqrt(2.0 / (1.0 + 0.2**2))
"""Of the leaky ReLU of slope 0.2: it keeps the variance (He et al. 2015, arXiv:1502.01852)."""


EQUALISED = False
"""Whether kernels are scaled at run time: their parameters are not what the layers apply."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure both networks.

    Attributes:
      width: channels at the full resolution, doubled at each halving.
      widest: at most so many channels.
      blocks: residual blocks per resolution.
      expansion: of the channels within a block.
      groups: of the 3x3 convolutions.
    """

    width: Width = 32
    widest: Width = 256
    blocks: Layers = 2
    expansion: Count = 2
    groups: Count = 1

    def __post_init__(self):
        check(self)
        if self.width * self.expansion % self.groups:
            raise ValueError(f"groups={self.groups} does not divide {self.width * self.expansion} channels")

    def channels(self, halved: int) -> int:
        """Return the channels of a map that is halved so often."""
        return _pyramid.channels(self.width, self.widest, halved)


class Block(nn.Module):
    """Add 1x1, leaky ReLU, 3x3, leaky ReLU, 1x1 of the input: B H W C -> B H W C.

    Attributes:
      total: residual blocks of the network; the first two kernels are smaller by total^(-1/4), as in Fixup
        (Zhang et al. 2019, arXiv:1901.09321, with three layers in a block).
    """

    config: Config
    total: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        c = self.config
        C = x.shape[-1]
        start = nn.initializers.variance_scaling((GAIN * self.total**-0.25) ** 2, "fan_in", "normal")
        h = leaky(Conv(C * c.expansion, 1, kernel_init=start, name="in")(x))
        h = leaky(Conv(C * c.expansion, 3, groups=c.groups, kernel_init=start, name="middle")(h))
        return x + Conv(C, 1, use_bias=False, kernel_init=nn.initializers.zeros, name="out")(h)


class Generator(nn.Module):
    """Map (z, condition) to an image."""

    config: Config
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool, keys: Keys | None = None
    ) -> Float[Array, "B H W C"]:
        c = self.config
        n = halvings(*self.shape[:2])
        size = (self.shape[0] // 2**n, self.shape[1] // 2**n, c.channels(n))
        basis = self.param("basis", nn.initializers.normal(1.0), size)
        h = nn.Dense(size[-1], use_bias=False, name="in")(jnp.concatenate([z, condition], -1))
        h = h[:, None, None] * basis[None]
        for i in reversed(range(n + 1)):
            for k in range(c.blocks):
                h = Block(c, (n + 1) * c.blocks, name=f"block_{i}_{k}")(h)
            if i:
                h = _mixed(h, c.channels(i - 1), f"up_{i}")
                h = resample.upsample(h, TAPS)
        return Conv(self.shape[-1], 1, name="out")(h)


class Critic(nn.Module):
    """Map an image to features."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B F"]:
        c = self.config
        n = halvings(*x.shape[1:3])
        h = Conv(c.channels(0), 1, name="in")(x)
        for i in range(n + 1):
            for k in range(c.blocks):
                h = Block(c, (n + 1) * c.blocks, name=f"block_{i}_{k}")(h)
            if i < n:
                h = resample.downsample(h, TAPS)
                h = _mixed(h, c.channels(i + 1), f"down_{i}")
        basis = self.param("basis", nn.initializers.normal(1.0 / math.sqrt(h[0, ..., 0].size)), h.shape[1:])
        return (h * basis[None]).sum((1, 2))


def _mixed(h: Float[Array, "B H W C"], channels: int, name: str) -> Float[Array, "B H W D"]:
    """Change the number of channels by a 1x1 convolution, if it has to change."""
    return h if h.shape[-1] == channels else Conv(channels, 1, use_bias=False, name=name)(h)


def leaky(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Compute the leaky ReLU of slope 0.2."""
    return nn.leaky_relu(x, 0.2)


def fits(config: Config, shape: tuple[int, ...], classes: int, latent: int) -> None:
    """Refuse groups that do not divide the channels of every map.

    Raises:
      ConfigError: they do not.
    """
    maps = range(halvings(*shape[:2]) + 1)
    inner = [config.channels(i) * config.expansion for i in maps]
    wrong = [c for c in inner if c % config.groups]
    if wrong:
        raise ConfigError(
            f"model.network.groups={config.groups} does not divide {wrong[0]} channels",
            "change groups, width or widest",
        )


def generator(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the generator of images of this shape.

    Raises:
      ConfigError: not images, or too small to be halved.
    """
    _pyramid.check("r3gan", shape)
    return Generator(config, shape)  # type: ignore[arg-type]


def critic(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the critic of images of this shape."""
    return Critic(config)


def normalises(config: Config) -> tuple[bool, bool]:
    """Return whether generator and critic look across rows."""
    return False, False


def kernels(config: Config, params: Tree, latent: int) -> list[jax.Array]:
    """Return the kernel (Z, N) that reads z."""
    return [params["in"]["kernel"][:latent]]
