"""Define the networks of variational autoencoders: encoder, decoder, prior, scale of the pixels.

The halves are fully connected, or convolutions that halve the image as often as possible, with residual
blocks at each resolution if there are any.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genjax.config import Range
from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.functional import likelihoods, mixtures, pixels
from genjax.functional.decoded_pixels import DecodedPixels
from genjax.functional.reductions import sum_row
from genjax.nn import priors
from genjax.nn.conv import Conv, halvings
from genjax.nn.image_codec import ResidualBlock
from genjax.nn.mlp import MLP

Activation = Literal["silu", "tanh", "relu"]
FITTED = "fitted"
"""The collection of what is fitted once, on real rows."""
Scale = Annotated[float, Range(above=0, most=10)]
"""A scale of values in [-1, 1]."""


@dataclasses.dataclass(frozen=True)
class Halves:
    """Describe encoder and decoder.

    Attributes:
      latent: dimensions of z, or its channels if `spatial`.
      network: "conv" or "mlp".
      spatial: z is a map of the size of the smallest feature map; needs network="conv".
      width: channels of the first convolution, doubled at each halving.
      blocks: residual blocks after each halving, and before each doubling.
      hidden: widths of the MLP's hidden layers in the encoder; the decoder has them in reverse order.
      activation: between the layers of the MLP.
      point: the posterior is a point: the encoder computes no standard deviation.
    """

    latent: int
    network: Literal["conv", "mlp"] = "conv"
    spatial: bool = False
    width: int = 32
    blocks: int = 0
    hidden: tuple[int, ...] = (400,)
    activation: Activation = "silu"
    point: bool = False

    @property
    def function(self) -> Callable[[jax.Array], jax.Array]:
        """Return the activation."""
        return {"silu": nn.silu, "tanh": jnp.tanh, "relu": nn.relu}[self.activation]


class Encoder(nn.Module):
    """Map (image in [-1, 1], condition) to the mean and log standard deviation of z."""

    halves: Halves

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *X"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B *Z"], Float[Array, "B *Z"]]:
        c = self.halves
        if c.network == "mlp":
            h = jnp.concatenate([x.reshape(x.shape[0], -1), condition], -1)
            h = MLP(c.hidden, c.function, final=True, name="body")(h)
        else:
            h = self.convolve(x, condition)
        width = c.latent if c.point else 2 * c.latent
        head = Conv(width, 1, name="posterior") if c.spatial else nn.Dense(width, name="posterior")
        if c.point:
            mean = head(h)
            return mean, jnp.full_like(mean, -jnp.inf)
        mean, log_std = jnp.split(head(h), 2, -1)
        return mean, log_std

    def convolve(self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"]) -> Float[Array, "B *L F"]:
        """Apply convolutions that halve the image as often as possible, then one that reads the condition."""
        c = self.halves
        h = nn.silu(Conv(c.width, name="in")(x))
        for i in range(halvings(*x.shape[1:3])):
            h = nn.silu(Conv(c.width * 2 ** (i + 1), (4, 4), (2, 2), name=f"down_{i}")(h))
            h = _residual(h, c.blocks, f"down_{i}")
        if c.spatial:
            return nn.silu(Conv(h.shape[-1], name="body")(_everywhere(h, condition)))
        h = jnp.concatenate([h.reshape(x.shape[0], -1), condition], -1)
        return MLP((8 * c.width,), final=True, name="body")(h)


class Decoder(nn.Module):
    """Map (z, condition) to `outputs` numbers for every value of the image."""

    halves: Halves
    shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]
    ) -> Float[Array, "outputs B *X"]:
        c = self.halves
        if c.network == "mlp":
            body = MLP(c.hidden[::-1], c.function, final=True, name="body")
            h = body(jnp.concatenate([z, condition], -1))
            h = nn.Dense(math.prod(self.shape) * self.outputs, name="out")(h)
        else:
            h = self.convolve(z, condition)
        # (values, outputs) -> (outputs, values) before the image, whose last axis may have one value.
        flat = jnp.moveaxis(h.reshape(h.shape[0], -1, self.outputs), -1, 0)
        return flat.reshape(self.outputs, -1, *self.shape)

    def convolve(self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, "B H W F"]:
        c = self.halves
        *low, n = lowest(self.shape)
        size = (*low, c.width * 2**n)
        if c.spatial:
            h = nn.silu(Conv(size[-1], name="body")(_everywhere(z, condition)))
        else:
            body = MLP((8 * c.width, math.prod(size)), final=True, name="body")
            h = body(jnp.concatenate([z, condition], -1)).reshape(-1, *size)
        for i in reversed(range(n)):
            h = _residual(h, c.blocks, f"up_{i}")
            h = nn.silu(Conv(c.width * 2**i, (4, 4), (2, 2), transpose=True, name=f"up_{i}")(h))
        return Conv(self.shape[-1] * self.outputs, name="out")(h)


def _residual(h: Float[Array, "B H W C"], blocks: int, name: str) -> Float[Array, "B H W C"]:
    for i in range(blocks):
        h = ResidualBlock(name=f"{name}_block_{i}")(h)
    return h


def lowest(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (height, width) of the smallest feature map of images (H, W, C), and the halvings to it."""
    n = halvings(*shape[:2])
    return shape[0] // 2**n, shape[1] // 2**n, n


def _everywhere(x: Float[Array, "B H W C"], condition: Float[Array, "B K"]) -> Float[Array, "B H W F"]:
    """Append the condition to every pixel's channels."""
    constant = jnp.broadcast_to(condition[:, None, None, :], (*x.shape[:3], condition.shape[-1]))
    return jnp.concatenate([x, constant], -1)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Describe the scale of a decoder's distribution, in units of the values in [-1, 1].

    Attributes:
      of: "pixel" (the decoder computes one for each value), "shared" (one learned number), "fixed" (`start`),
        or "none" (the distribution has no scale).
      start: the initial scale.
      smallest: lower bound of a learned scale.
      locations: of a value: one, or one for each component of a mixture.
      extra: further numbers per value, which pass unchanged.
    """

    of: Literal["pixel", "shared", "fixed", "none"]
    start: float
    smallest: float
    locations: int = 1
    extra: int = 0

    @classmethod
    def for_pixels(
        cls, pixels: DecodedPixels, of: Any, start: float, smallest: float, channels: int
    ) -> Spread:
        """Return what the distribution of pixels with so many channels needs.

        Raises:
          ConfigError: a mixture of more channels than it is defined for.
        """
        if not pixels.mixture:
            return cls("none" if pixels.binary else of, start, smallest)
        if channels > mixtures.CHANNELS:
            raise ConfigError(
                f"model.likelihood: a mixture of {channels} channels per pixel is not supported",
                f"use images of at most {mixtures.CHANNELS} channels, or another likelihood",
            )
        extra = mixtures.extra(pixels.components, channels)
        return cls(of, start, smallest, pixels.components, extra)

    @property
    def outputs(self) -> int:
        """Return how many numbers the decoder computes for a value: locations, its own scales, others."""
        return self.locations * (2 if self.of == "pixel" else 1) + self.extra

    def apply(
        self, out: Float[Array, "outputs B *X"], shared: Float[Array, ""] | None = None
    ) -> Float[Array, "O B *X"]:
        """Return locations, log scales and further numbers of every value; the output if there is no scale.

        Args:
          shared: the learned number that all values share.
        """
        if self.of == "none":
            return out
        location, rest = jnp.split(out, [self.locations])
        raw = rest[: self.locations] if self.of == "pixel" else jnp.zeros_like(location)
        further = rest[rest.shape[0] - self.extra :]
        if self.of == "fixed":
            return jnp.concatenate([location, raw + math.log(self.start), further])
        if shared is not None:
            raw = raw + shared.reshape((1,) * raw.ndim)
        # softplus(20 s) / 20: starts at `start`, is never below `smallest`, and is steep near it.
        start = math.log(math.expm1((self.start - self.smallest) * 20.0))
        scale = nn.softplus(raw + start) / 20.0 + self.smallest
        return jnp.concatenate([location, jnp.log(scale), further])


def read(image: Num[Array, "B *X"], levels: int, unit: bool) -> Float[Array, "B *X"]:
    """Return what an encoder reads: levels in [-1, 1] or, for Bernoulli decoders, in [0, 1].

    Binary images are mostly 0. In [-1, 1] their common offset saturates the first layer of a tanh network.
    """
    if not levels:
        return image
    # One axis for all values: see DecodedPixels.log_prob.
    flat = image.reshape(image.shape[0], -1)
    return (pixels.to_unit(flat, levels) if unit else pixels.to_signed(flat, levels)).reshape(image.shape)


def log_odds(image: Num[Array, "B *X"], mask: Float[Array, " B"], levels: int) -> Float[Array, "*X"]:
    """Return the log odds of the mean of every pixel over rows, with means in [0.005, 0.995].

    Added to a Bernoulli decoder's output they are its start: a decoder that had to learn them first would
    ignore z meanwhile (measured in experiments/iwae/RESULTS.md).
    """
    unit = pixels.to_unit(image, levels)
    weight = mask.reshape(-1, *(1,) * (unit.ndim - 1))
    mean = (unit * weight).sum(0) / jnp.maximum(mask.sum(), 1.0)
    p = jnp.clip(mean, 0.005, 0.995)
    return jnp.log(p) - jnp.log1p(-p)


class VAE(nn.Module):
    """Hold encoder, decoder and prior, and the scale that all pixels share if there is one.

    Attributes:
      levels: of the image; 0 for real values, which are read as they are.
      prior: of z (nn/priors.py).
      classes: width of the condition.
    """

    halves: Halves
    spread: Spread
    shape: tuple[int, ...]
    levels: int
    prior: priors.Prior
    classes: int

    def setup(self):
        self.encoder = Encoder(self.halves)
        self.decoder = Decoder(self.halves, self.shape, self.spread.outputs)
        if self.spread.of == "shared":
            self.shared = self.param("spread", nn.initializers.zeros, ())
        if self.binary:
            self.offset = self.variable(FITTED, "offset", jnp.zeros, self.shape)
        if self.prior.kind == "vamp":
            self.pseudo = priors.PseudoInputs(self.prior.components, self.shape, self.binary)
        if self.prior.kind == "coupling":
            self.flow = priors.FlowPrior(self.halves.latent, self.prior)

    @property
    def binary(self) -> bool:
        """Return True if the decoder computes logits."""
        return self.spread.of == "none"

    def encode(
        self, image: Num[Array, "B *X"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B *Z"], Float[Array, "B *Z"]]:
        """Return mean and log standard deviation of q(z | x)."""
        return self.encoder(read(image, self.levels, self.binary), condition)

    def decode(self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, "outputs B *X"]:
        """Return the logits, or the location (in [-1, 1]) and the log scale."""
        out = self.decoder(z, condition)
        if self.binary:
            return out + self.offset.value[None, None]
        return self.spread.apply(out, self.shared if self.spread.of == "shared" else None)

    def prior_log_prob(self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, " B"]:
        """Compute log p(z | condition) per row."""
        if self.prior.kind == "vamp":
            return priors.mixture_log_prob(z, *self.components())
        if self.prior.kind == "coupling":
            return self.flow.log_prob(z, condition)
        zeros = jnp.zeros_like(z)
        return sum_row(likelihoods.normal(zeros, zeros, z))

    def prior_draw(
        self, noise: Float[Array, "B *Z"], keys: Keys, condition: Float[Array, "B K"]
    ) -> Float[Array, "B *Z"]:
        """Return a draw of p(z | condition) per row from normal noise; `keys` choose mixture components."""
        if self.prior.kind == "vamp":
            return priors.mixture_draw(noise, keys, *self.components())
        return self.flow.draw(noise, condition) if self.prior.kind == "coupling" else noise

    def components(self) -> tuple[Float[Array, "K *Z"], Float[Array, "K *Z"]]:
        """Return mean and log standard deviation of the VampPrior's components."""
        inputs = self.pseudo()
        return self.encoder(inputs, jnp.zeros((inputs.shape[0], self.classes)))

    def __call__(self, image: jax.Array, condition: jax.Array) -> jax.Array:
        """Call every layer once, for the initialisation."""
        z = self.encode(image, condition)[0]
        self.prior_log_prob(z, condition)
        return self.decode(z, condition)
