"""Residual networks: SNGAN (Miyato et al. 2018), SAGAN (Zhang et al. 2019) and BigGAN (Brock et al. 2019).

arXiv:1802.05957, arXiv:1805.08318 and arXiv:1809.11096. BigGAN is attention=(16,), skip=True and shared=128,
with spectral normalisation of both players; BigGAN-deep has bottleneck=4.
"""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Natural, Width, check
from genjax.core import Keys, Tree
from genjax.errors import ConfigError
from genjax.nn.conv import BatchNorm, Conv, downsample, halvings, upsample
from genjax.nn.gans import _pyramid

EQUALISED = False
"""Whether kernels are scaled at run time: their parameters are not what the layers apply."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure residual networks.

    Attributes:
      width: channels at the full resolution, doubled at each halving.
      widest: at most so many channels.
      attention: sides of the maps that attend to themselves.
      skip: every block of the generator reads a part of z of its own (BigGAN, appendix B).
      shared: width of the class embedding that all blocks of the generator share; 0 for the class itself.
      bottleneck: blocks are narrower inside by this factor, and have four convolutions (BigGAN-deep, appendix
        B); 1 for two convolutions.
      batch_norm: of the generator; its scale and shift depend on the class (and on z if `skip`).
    """

    width: Width = 32
    widest: Width = 256
    attention: tuple[Width, ...] = ()
    skip: bool = False
    shared: Natural = 0
    bottleneck: Count = 1
    batch_norm: bool = True

    def __post_init__(self):
        check(self)
        if self.skip and not self.batch_norm:
            raise ValueError("skip needs batch_norm=True: blocks read z through it")

    def channels(self, halved: int) -> int:
        """Return the channels of a map that is halved so often."""
        return _pyramid.channels(self.width, self.widest, halved)


orthogonal = nn.initializers.orthogonal()


class Normalise(nn.Module):
    """Apply batch normalisation whose scale and shift are functions of `given` (B, G); G may be 0."""

    on: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], given: Float[Array, "B G"], train: bool
    ) -> Float[Array, "B H W C"]:
        if not self.on:
            return x
        if not given.shape[-1]:
            return BatchNorm(name="batch")(x, train)
        C = x.shape[-1]
        h = BatchNorm(center=False, name="batch")(x, train)
        scale = nn.Dense(C, use_bias=False, kernel_init=orthogonal, name="scale")(given)
        shift = nn.Dense(C, kernel_init=orthogonal, name="shift")(given)
        return h * (1.0 + scale)[:, None, None] + shift[:, None, None]


class Attention(nn.Module):
    """Add what every pixel reads from a quarter of the pixels, times a number that starts at 0.

    SAGAN, sec. 3.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        B, H, W, C = x.shape
        layer = lambda features, name: Conv(features, 1, use_bias=False, kernel_init=orthogonal, name=name)
        narrow = max(C // 8, 1)
        half = max(C // 2, 1)
        pool = lambda h: nn.max_pool(h, (2, 2), (2, 2)).reshape(B, -1, h.shape[-1])
        query = layer(narrow, "query")(x).reshape(B, H * W, narrow)
        key = pool(layer(narrow, "key")(x))
        value = pool(layer(half, "value")(x))
        weights = jax.nn.softmax(query @ key.swapaxes(1, 2), -1)
        read = layer(C, "out")((weights @ value).reshape(B, H, W, half))
        return x + self.param("share", nn.initializers.zeros, ()).reshape(1, 1, 1, 1) * read


class Up(nn.Module):
    """Double the image: a residual block of the generator.

    Attributes:
      features: channels of the output.
    """

    config: Config
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], given: Float[Array, "B G"], train: bool
    ) -> Float[Array, "B H2 W2 D"]:
        c = self.config
        norm = lambda h, name: nn.relu(Normalise(c.batch_norm, name=name)(h, given, train))
        conv = lambda features, size, name: Conv(features, size, kernel_init=orthogonal, name=name)
        h = norm(x, "norm_0")
        if c.bottleneck == 1:
            h = conv(self.features, 3, "conv_0")(upsample(h))
            h = conv(self.features, 3, "conv_1")(norm(h, "norm_1"))
            return h + conv(self.features, 1, "skip")(upsample(x))
        inner = max(x.shape[-1] // c.bottleneck, 1)
        h = norm(conv(inner, 1, "conv_0")(h), "norm_1")
        h = norm(conv(inner, 3, "conv_1")(upsample(h)), "norm_2")
        h = norm(conv(inner, 3, "conv_2")(h), "norm_3")
        # The skip drops channels instead of mixing them.
        return conv(self.features, 1, "conv_3")(h) + upsample(x[..., : self.features])


class Down(nn.Module):
    """Halve the image: a residual block of the critic.

    Attributes:
      features: channels of the output.
      first: the block reads an image, which no ReLU may cut.
    """

    config: Config
    features: int
    first: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
        c = self.config
        conv = lambda features, size, name: Conv(features, size, kernel_init=orthogonal, name=name)
        h = x if self.first else nn.relu(x)
        if c.bottleneck == 1 or self.first:
            h = conv(self.features, 3, "conv_0")(h)
            h = downsample(conv(self.features, 3, "conv_1")(nn.relu(h)))
            return h + conv(self.features, 1, "skip")(downsample(x))
        inner = max(self.features // c.bottleneck, 1)
        h = nn.relu(conv(inner, 1, "conv_0")(h))
        h = nn.relu(conv(inner, 3, "conv_1")(h))
        h = conv(self.features, 1, "conv_3")(downsample(nn.relu(conv(inner, 3, "conv_2")(h))))
        kept = downsample(x)
        more = self.features - kept.shape[-1]
        if more > 0:
            # The skip keeps the channels and learns the additional ones.
            kept = jnp.concatenate([kept, conv(more, 1, "skip")(kept)], -1)
        return h + kept[..., : self.features]


class Generator(nn.Module):
    """Map (z, condition) to an image in [-1, 1]."""

    config: Config
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool, keys: Keys | None = None
    ) -> Float[Array, "B H W C"]:
        c = self.config
        n = halvings(*self.shape[:2])
        label = condition
        if c.shared and condition.shape[-1]:
            label = nn.Dense(c.shared, use_bias=False, kernel_init=orthogonal, name="class")(condition)
        parts = jnp.split(z, _ends(z.shape[-1], n), -1) if c.skip else [z]
        first = parts[0] if c.batch_norm else jnp.concatenate([z, label], -1)
        size = (self.shape[0] // 2**n, self.shape[1] // 2**n, c.channels(n))
        h = nn.Dense(math.prod(size), kernel_init=orthogonal, name="in")(first).reshape(-1, *size)
        for i in reversed(range(n)):
            given = jnp.concatenate([label, parts[n - i]], -1) if c.skip else label
            h = Up(c, c.channels(i), name=f"up_{i}")(h, given, train)
            if h.shape[1] in c.attention:
                h = Attention(name=f"attention_{i}")(h)
        h = BatchNorm(name="norm")(h, train) if c.batch_norm else h
        return jnp.tanh(Conv(self.shape[2], kernel_init=orthogonal, name="out")(nn.relu(h)))


class Critic(nn.Module):
    """Map an image to features, summed over its pixels."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B F"]:
        c = self.config
        h = x
        for i in range(halvings(*x.shape[1:3])):
            h = Down(c, c.channels(i + 1), first=not i, name=f"down_{i}")(h)
            if h.shape[1] in c.attention:
                h = Attention(name=f"attention_{i}")(h)
        h = h + Conv(h.shape[-1], kernel_init=orthogonal, name="last")(nn.relu(h))
        return nn.relu(h).sum((1, 2))


def fits(config: Config, shape: tuple[int, ...], classes: int, latent: int) -> None:
    """Refuse what has no effect without classes, and fewer dimensions of z than parts of it.

    Raises:
      ConfigError: either.
    """
    if config.shared and not classes:
        raise ConfigError("model.network.shared: the model is given no class to embed", "leave it out")
    parts = halvings(*shape[:2]) + 1
    if config.skip and latent < parts:
        raise ConfigError(
            f"model.latent={latent}: with skip, z has {parts} parts", f"give {parts} dimensions or more"
        )


def generator(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the generator of images of this shape.

    Raises:
      ConfigError: not images, too small to be halved, or no map has the side of an attention.
    """
    _pyramid.check("resnet", shape)
    sides = [shape[0] // 2**i for i in range(halvings(*shape[:2]) + 1)]
    wrong = [side for side in config.attention if side not in sides[:-1]]
    if wrong:
        raise ConfigError(
            f"model.network.attention={wrong}: no map has that side",
            f"choose among {', '.join(map(str, sides[:-1]))}",
        )
    return Generator(config, shape)  # type: ignore[arg-type]


def critic(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the critic of images of this shape."""
    return Critic(config)


def normalises(config: Config) -> tuple[bool, bool]:
    """Return whether generator and critic look across rows."""
    return config.batch_norm, False


def kernels(config: Config, params: Tree, latent: int) -> list[jax.Array]:
    """Return the kernel (Z, N) that reads z: of all blocks, where each reads a part of its own."""
    if not config.skip:
        return [params["in"]["kernel"][:latent]]
    n = sum(name.startswith("up_") for name in params)
    starts = [0, *_ends(latent, n), latent]
    read = [[params["in"]["kernel"]]]
    for i in reversed(range(n)):
        norms = [layer for name, layer in sorted(params[f"up_{i}"].items()) if name.startswith("norm_")]
        read.append([norm[part]["kernel"] for norm in norms for part in ("scale", "shift")])
    columns = []
    for first, last, found in zip(starts[:-1], starts[1:], read, strict=True):
        # The rows of the class, which a block reads before its part of z, are left out.
        part = jnp.concatenate([kernel[-(last - first) :] for kernel in found], -1)
        columns.append(jnp.zeros((latent, part.shape[-1])).at[first:last].set(part))
    return [jnp.concatenate(columns, -1)]


def _ends(latent: int, blocks: int) -> list[int]:
    """Return where the parts of z end, but for the last: one for the first layer and one for each block."""
    return [latent * (i + 1) // (blocks + 1) for i in range(blocks)]
