"""Define the magnitude-preserving U-Net of EDM2 (Karras et al. 2024, arXiv:2312.02696, app. B).

No layer changes the expected magnitude of its input: kernels are normalised where they are used, sums and
concatenations are weighted, SiLU is divided by its gain, and there are neither biases nor group norms. The
authors also normalise the stored kernels after every step; here only their use is normalised. Arrays are
B x H x W x C.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.nn.attention import attend
from genjax.nn.conv import conv, downsample, upsample
from genjax.nn.dropout import dropout, fold

EPSILON = 1e-4
RESIDUAL = 0.3
"""The share of the branch in a residual sum."""
LIMIT = 256.0


def normalised(x: Float[Array, "*shape"], axes: Sequence[int]) -> Float[Array, "*shape"]:
    """Return x with unit mean square over the axes (eq. 66)."""
    x = x.astype(jnp.float32)
    length = jnp.sqrt(jnp.square(x).mean(tuple(axes), keepdims=True))
    return x / (EPSILON + length)


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return SiLU over its gain on normal values (eq. 81)."""
    return jax.nn.silu(x) / 0.596


def joined(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"], share: float = RESIDUAL
) -> Float[Array, "*shape"]:
    """Return (1 - share) a + share b over the magnitude of that sum (eq. 88)."""
    return ((1.0 - share) * a + share * b) / math.hypot(1.0 - share, share)


def concatenated(
    a: Float[Array, "*shape A"], b: Float[Array, "*shape B"], share: float = 0.5
) -> Float[Array, "*shape C"]:
    """Return both along the last axis, with the contribution of b equal to `share` (eq. 103)."""
    A = a.shape[-1]
    B = b.shape[-1]
    scale = math.sqrt((A + B) / ((1.0 - share) ** 2 + share**2))
    return jnp.concatenate(
        [a * (scale * (1.0 - share) / math.sqrt(A)), b * (scale * share / math.sqrt(B))], axis=-1
    )


class Product(nn.Module):
    """Apply a convolution or a linear layer whose kernel has unit magnitude for each output (eq. 47).

    Attributes:
      features: of the output.
      size: side of the kernel of a convolution; 0 for a linear layer.
      gain: learned, from 0 at first; else 1.
    """

    features: int
    size: int = 3
    gain: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S D"]:
        shape = (*(self.size,) * (2 if self.size else 0), x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        axes = tuple(range(len(shape) - 1))
        kernel = normalised(kernel, axes) / math.sqrt(math.prod(shape[:-1]))
        if self.gain:
            kernel = kernel * self.param("gain", nn.initializers.zeros, ())
        kernel = kernel.astype(self.dtype)
        x = x.astype(self.dtype)
        return conv(x, kernel) if self.size else x @ kernel


class Fourier(nn.Module):
    """Embed a number by cosines of random frequencies and phases (eq. 75), fixed by `seed`."""

    width: int
    seed: int = 0

    @nn.compact
    def __call__(self, t: Float[Array, " B"]) -> Float[Array, "B W"]:
        rng = np.random.default_rng(self.seed)
        frequency = (2 * np.pi * rng.normal(size=self.width)).astype(np.float32)
        phase = (2 * np.pi * rng.uniform(size=self.width)).astype(np.float32)
        return math.sqrt(2.0) * jnp.cos(t[:, None] * frequency[None] + phase[None])


class Block(nn.Module):
    """Apply a block of the encoder or the decoder.

    Attributes:
      features: of the output.
      encoder: the input is normalised over its channels, after its own 1x1 convolution; in the decoder the
        convolution is on the skip alone.
      heads: of self-attention; 0 for none.
    """

    features: int
    encoder: bool
    heads: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B E"], keys: Keys | None
    ) -> Float[Array, "B H W F"]:
        product = lambda name, **how: Product(self.features, dtype=self.dtype, name=name, **how)
        if self.encoder:
            x = product("skip", size=1)(x) if x.shape[-1] != self.features else x
            x = normalised(x, (-1,)).astype(self.dtype)
        y = product("first")(silu(x))
        scale = 1.0 + product("condition", size=0, gain=True)(condition)
        y = silu(y * scale[:, None, None])
        y = product("second")(dropout(y, self.dropout, keys))
        if not self.encoder and x.shape[-1] != self.features:
            x = product("skip", size=1)(x)
        x = joined(x, y)
        if self.heads:
            x = joined(x, self._attended(x))
        return jnp.clip(x, -LIMIT, LIMIT)

    def _attended(self, x: Float[Array, "B H W F"]) -> Float[Array, "B H W F"]:
        """Return cosine attention over all pixels (eq. 61)."""
        B, H, W, C = x.shape
        qkv = Product(3 * C, size=1, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(B, H * W, 3, self.heads, -1), 2, 0)
        q, k, v = (normalised(y, (-1,)).astype(self.dtype) for y in (q, k, v))
        h = attend(q, k, v).reshape(x.shape)
        return Product(C, size=1, dtype=self.dtype, name="attention_out")(h)


class EDM2UNet(nn.Module):
    """Map images, the time and a label to images.

    Attributes:
      channels: of the output.
      width: channels at the full size.
      multipliers: of the width, one per level; each level halves the size.
      blocks: per level of the encoder; one more in the decoder.
      attention: sizes at which blocks have attention; the lowest level always has it in the middle.
      head: channels of an attention head.
      classes: of the label; 0 for none. Class `classes` stands for no label.
      dropout: rate within blocks.
      remat: recompute activations in the backward pass.
      dtype: of the computation; parameters are float32.
    """

    channels: int
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    head: int = 32
    classes: int = 0
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        t: Float[Array, " B"],
        label: Float[Array, "B K"] | None = None,
        keys: Keys | None = None,
    ) -> Float[Array, "B H W {self.channels}"]:
        """Return the output images (float32), zero at first.

        Args:
          t: times in [0, 1].
          label: one-hot over classes + 1; None without classes.
          keys: of dropout; None for none.

        Raises:
          ValueError: a side cannot be halved so often.
        """
        halvings = len(self.multipliers) - 1
        if any(side % 2**halvings for side in x.shape[1:3]):
            raise ValueError(f"images of {x.shape[1:3]} cannot be halved {halvings} times")
        widest = self.width * max(self.multipliers)
        # c_noise = log(sigma) / 4 runs through about [-1.5, 1.5]; the times are spread over the same.
        time = Product(widest, 0, name="time")(Fourier(self.width)(3.0 * t - 1.5))
        if self.classes:
            assert label is not None
            own = Product(widest, 0, name="label")(label * math.sqrt(label.shape[-1]))
            time = joined(time, own, 0.5)
        condition = silu(time).astype(self.dtype)
        sites = itertools.count()
        make = nn.remat(Block) if self.remat else Block

        def block(h: Array, features: int, encoder: bool, name: str, attentive: bool = False) -> Array:
            noise = fold(keys, next(sites))
            attentive = attentive or max(h.shape[1:3]) in self.attention
            heads = max(features // self.head, 1) if attentive else 0
            return make(features, encoder, heads, self.dropout, self.dtype, name=name)(h, condition, noise)

        ones = jnp.ones((*x.shape[:3], 1), x.dtype)  # in the place of a bias
        h = Product(self.width, dtype=self.dtype, name="in")(jnp.concatenate([x, ones], axis=-1))
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                h = block(downsample(h), self.width * self.multipliers[level - 1], True, f"down{level}")
                skips.append(h)
            for i in range(self.blocks):
                h = block(h, self.width * multiplier, True, f"encoder{level}_{i}")
                skips.append(h)
        h = block(h, h.shape[-1], False, "middle_0", attentive=True)
        h = block(h, h.shape[-1], False, "middle_1")
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            if level < halvings:
                h = block(upsample(h), h.shape[-1], False, f"up{level}")
            for i in range(self.blocks + 1):
                h = concatenated(h, skips.pop())
                h = block(h, self.width * multiplier, False, f"decoder{level}_{i}")
        return Product(self.channels, gain=True, dtype=self.dtype, name="out")(h).astype(jnp.float32)
