"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): styles, noise, skip generator, residual critic."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Layers, Positive, Rate, Share, Width, check
from genjax.core import Keys, Tree, across
from genjax.errors import ConfigError
from genjax.functional import noise, resample
from genjax.nn.conv import halvings
from genjax.nn.gans import _pyramid
from genjax.nn.modulated import EqualConv, EqualDense, ModulatedConv, activate

EQUALISED = True
"""Whether kernels are scaled at run time: their parameters are not what the layers apply."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure StyleGAN2.

    Attributes:
      width: channels at the full resolution, doubled at each halving.
      widest: at most so many channels.
      style: dimensions of w.
      layers: of the mapping from z to w.
      mapping_rate: learning rate of the mapping, relative to other layers.
      mixing: probability that a training row has two styles, the second from a random layer on (Karras et al.
        2019, arXiv:1812.04948, sec. 3.1).
      decay: of the running mean of w, which truncation moves styles towards.
      noise: add noise to the activations.
      group: rows whose standard deviation the critic reads (Karras et al. 2018, arXiv:1710.10196, sec. 3); 1
        for none.
    """

    width: Width = 32
    widest: Width = 256
    style: Width = 128
    layers: Layers = 4
    mapping_rate: Positive = 0.01
    mixing: Share = 0.9
    decay: Rate = 0.998
    noise: bool = True
    group: Count = 4

    def __post_init__(self):
        check(self)

    def channels(self, halved: int) -> int:
        """Return the channels of a map that is halved so often."""
        return _pyramid.channels(self.width, self.widest, halved)


class Mapping(nn.Module):
    """Map (z, condition) to a style w."""

    config: Config

    @nn.compact
    def __call__(self, z: Float[Array, "B Z"], condition: Float[Array, "B K"]) -> Float[Array, "B W"]:
        c = self.config
        h = _normalised(z)
        if condition.shape[-1]:
            h = jnp.concatenate([h, _normalised(EqualDense(c.style, name="class")(condition))], -1)
        for i in range(c.layers):
            h = activate(EqualDense(c.style, c.mapping_rate, name=f"dense_{i}")(h))
        return h


class Layer(nn.Module):
    """Apply a modulated convolution, noise, a bias and the activation."""

    features: int
    double: bool = False
    noise: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], w: Float[Array, "B W"], keys: Keys | None
    ) -> Float[Array, "B H2 W2 D"]:
        y = ModulatedConv(self.features, double=self.double, name="conv")(x, w)
        if self.noise:
            strength = self.param("noise", nn.initializers.zeros, ())
            if keys is not None:
                y = y + strength.reshape(1, 1, 1, 1) * noise.normal(keys, (*y.shape[1:3], 1))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return activate(y + bias.reshape(1, 1, 1, -1))


class Generator(nn.Module):
    """Map (z, condition) to an image: `mapping` to styles, then `synthesis`.

    Attributes:
      shape: of the image.
    """

    config: Config
    shape: tuple[int, int, int]

    @property
    def halved(self) -> int:
        return halvings(*self.shape[:2])

    @property
    def depth(self) -> int:
        """Return L, the number of styles: one for each convolution, and one for the last image."""
        return 2 * self.halved + 2

    def setup(self):
        c = self.config
        n = self.halved
        self.map = Mapping(c)
        self.mean = self.variable("batch_stats", "style", jnp.zeros, (c.style,))
        low = (1, self.shape[0] // 2**n, self.shape[1] // 2**n, c.channels(n))
        self.start = self.param("start", nn.initializers.normal(1.0), low)
        layers = [Layer(c.channels(n), noise=c.noise)]
        images = [ModulatedConv(self.shape[2], 1, demodulate=False)]
        for i in reversed(range(n)):
            layers += [Layer(c.channels(i), True, c.noise), Layer(c.channels(i), noise=c.noise)]
            images.append(ModulatedConv(self.shape[2], 1, demodulate=False))
        self.layers = layers
        self.images = images
        self.bias = self.param("bias", nn.initializers.zeros, (self.shape[2],))

    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool, keys: Keys | None = None
    ) -> Float[Array, "B H W C"]:
        w = self.mapping(z, condition)
        if train and self.is_mutable_collection("batch_stats") and not self.is_initializing():
            total, rows = across((w.sum(0), jnp.float32(w.shape[0])))
            now = jax.lax.stop_gradient(total / rows)
            self.mean.value = self.config.decay * self.mean.value + (1 - self.config.decay) * now
        styles = self.repeated(w)
        if train and keys is not None and self.config.mixing:
            styles = self.mixed(styles, z.shape[-1], condition, keys)
        return self.synthesis(styles, keys)

    def mapping(self, z: Float[Array, "B Z"], condition: Float[Array, "B K"]) -> Float[Array, "B W"]:
        return self.map(z, condition)

    def repeated(self, w: Float[Array, "B W"]) -> Float[Array, "B L W"]:
        """Return the same style for every layer."""
        return jnp.broadcast_to(w[:, None], (w.shape[0], self.depth, w.shape[-1]))

    def mixed(
        self, styles: Float[Array, "B L W"], latent: int, condition: Float[Array, "B K"], keys: Keys
    ) -> Float[Array, "B L W"]:
        """Replace the styles of some rows by others, from a random layer on."""
        other = self.mapping(noise.normal(noise.fold(keys, 11), (latent,)), condition)
        first = noise.integers(noise.fold(keys, 12), 1, self.depth)
        first = jnp.where(noise.bernoulli(noise.fold(keys, 13), self.config.mixing), first, self.depth)
        later = jnp.arange(self.depth)[None] >= first[:, None]
        return jnp.where(later[..., None], other[:, None], styles)

    def truncated(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], keys: Keys | None, psi: float
    ) -> Float[Array, "B H W C"]:
        """Return the images of styles moved towards their mean: w = mean + psi (w - mean) (2019, sec. B)."""
        mean = self.mean.value[None]
        return self.synthesis(self.repeated(mean + psi * (self.mapping(z, condition) - mean)), keys)

    def synthesis(self, styles: Float[Array, "B L W"], keys: Keys | None) -> Float[Array, "B H W C"]:
        """Return the images of the styles of each layer; without keys no noise is added."""
        x = jnp.broadcast_to(self.start, (styles.shape[0], *self.start.shape[1:]))
        image = None
        for i, layer in enumerate(self.layers):
            x = layer(x, styles[:, i], noise.fold(keys, 20 + i))
            if i % 2 == 0:  # the last layer of a resolution: an image is added to the doubled one before it
                part = self.images[i // 2](x, styles[:, i + 1])
                image = part if image is None else resample.upsample(image) + part
        assert image is not None
        return image + self.bias.reshape(1, 1, 1, -1)


class Critic(nn.Module):
    """Map an image to features through residual blocks that halve it."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B F"]:
        c = self.config
        n = halvings(*x.shape[1:3])
        h = activate(EqualConv(c.channels(0), 1, name="in")(x))
        for i in range(n):
            skip = EqualConv(c.channels(i + 1), 1, bias=False, name=f"skip_{i}")(resample.downsample(h))
            h = activate(EqualConv(c.channels(i), name=f"conv_{i}")(h))
            h = activate(EqualConv(c.channels(i + 1), halve=True, name=f"down_{i}")(h))
            h = (h + skip) / math.sqrt(2.0)
        if c.group > 1:
            h = jnp.concatenate([h, deviation(h, c.group)], -1)
        h = activate(EqualConv(c.channels(n), name="last")(h))
        return activate(EqualDense(c.channels(n), name="features")(h.reshape(h.shape[0], -1)))


def deviation(x: Float[Array, "B H W C"], group: int) -> Float[Array, "B H W 1"]:
    """Return the standard deviation of values within groups of adjacent rows, averaged over all values.

    Fewer rows than `group` are one group. Groups of adjacent rows lie on one device if its rows are a
    multiple of `group`.

    Raises:
      ConfigError: rows are left over.
    """
    B = x.shape[0]
    group = min(group, B)
    if B % group:
        raise ConfigError(
            f"model.network.group={group} does not divide {B} rows", "change data.batch, or the group"
        )
    rows = x.reshape(B // group, group, -1)
    spread = jnp.sqrt(jnp.square(rows - rows.mean(1, keepdims=True)).mean(1) + 1e-8).mean(1)
    return jnp.broadcast_to(jnp.repeat(spread, group)[:, None, None, None], (*x.shape[:3], 1))


def _normalised(x: Float[Array, "B N"]) -> Float[Array, "B N"]:
    """Divide rows by their root mean square."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)


def fits(config: Config, shape: tuple[int, ...], classes: int, latent: int) -> None:
    """Refuse nothing: every config fits every image."""


def generator(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the generator of images of this shape.

    Raises:
      ConfigError: not images, or too small to be halved.
    """
    _pyramid.check("stylegan2", shape)
    return Generator(config, shape)  # type: ignore[arg-type]


def critic(config: Config, shape: tuple[int, ...]) -> nn.Module:
    """Return the critic of images of this shape."""
    return Critic(config)


def normalises(config: Config) -> tuple[bool, bool]:
    """Return whether generator and critic look across rows."""
    return True, config.group > 1


def kernels(config: Config, params: Tree, latent: int) -> list[jax.Array]:
    """Return for each of the L styles the kernel (W, N) of the modulations that read it."""
    del latent
    depth = 1 + sum(name.startswith("layers_") for name in params)
    found = [[params[f"layers_{i}"]["conv"]["affine"]["kernel"]] for i in range(depth - 1)]
    found.append([])
    for i in range(depth // 2):
        found[2 * i + 1].append(params[f"images_{i}"]["affine"]["kernel"])
    return [jnp.concatenate(parts, -1) for parts in found]
