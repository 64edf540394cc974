"""Define the U-Net of DDPM for images or feature maps of any size, odd sizes included.

Ho et al. 2020 (arXiv:2006.11239, app. B), with the condition's scale and shift of Dhariwal & Nichol 2021
(arXiv:2105.05233, sec. 3). Arrays are B x H x W x C.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.nn.attention import attend
from genjax.nn.conv import Conv, upsample
from genjax.nn.dropout import dropout, fold
from genjax.nn.groupnorm import GroupNorm


class Residual(nn.Module):
    """Add a residual branch: norm, SiLU, conv, conditioned norm, SiLU, dropout, conv.

    The second norm is scaled by 1 + scale and shifted, both linear in the condition.

    Attributes:
      features: F, the number of output channels.
      dropout: dropout rate.
      groups, dtype: as in UNet.
    """

    features: int
    dropout: float = 0.0
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B E"], keys: Keys | None = None
    ) -> Float[Array, "B H W F"]:
        conv = lambda name, **how: Conv(self.features, dtype=self.dtype, name=name, **how)
        h = GroupNorm(self.groups, silu=True, dtype=self.dtype, name="norm_in")(x)
        h = conv("conv_in", use_bias=False)(h)
        film = nn.Dense(2 * self.features, dtype=self.dtype, name="film")(condition)
        scale, shift = jnp.split(film, 2, axis=-1)
        norm = GroupNorm(self.groups, affine=False, silu=True, dtype=self.dtype, name="norm_out")
        h = norm(h, 1 + scale, shift)
        h = dropout(h, self.dropout, keys)
        # Zero initialisation: the branch adds nothing at first, so that depth does not hinder early training.
        h = conv("conv_out", kernel_init=nn.initializers.zeros)(h)
        if x.shape[-1] != self.features:
            # A linear skip connection (a 1x1 convolution) where the number of channels changes.
            x = nn.Dense(self.features, dtype=self.dtype, name="skip")(x)
        return x + h


class Attention(nn.Module):
    """Add a residual branch of self-attention over all pixels of a row.

    Attributes:
      head: aimed-at channels of one head; the number of heads must divide the channels.
      groups, dtype: as in UNet.
    """

    head: int = 32
    groups: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        rows, height, width, channels = x.shape
        heads = math.gcd(max(channels // self.head, 1), channels)
        h = GroupNorm(self.groups, dtype=self.dtype, name="norm")(x)
        # No bias: softmax is invariant to a term common to all keys, so that a key bias has no gradient.
        qkv = nn.Dense(3 * channels, use_bias=False, dtype=self.dtype, name="qkv")(h)
        q, k, v = jnp.moveaxis(qkv.reshape(rows, height * width, 3, heads, channels // heads), 2, 0)
        h = attend(q, k, v).reshape(x.shape)
        out = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")
        return x + out(h)


class UNet(nn.Module):
    """Apply a U-Net: a contracting path, a middle, and an expanding path with skip connections.

    Attributes:
      channels: output channels.
      width: channels at the full size.
      multipliers: factors on `width`, one per level; each level halves the size, rounding up.
      blocks: residual blocks per level of the contracting path (one more on the expanding path).
      attention: sizes (the larger side, in pixels) at which every block is followed by attention.
      middle_attention: apply attention between the two blocks of the middle.
      head: channels of an attention head.
      dropout: dropout rate within residual blocks.
      groups: number of groups of the normalisation.
      remat: recompute the blocks' activations in the backward pass.
      dtype: dtype of the computation; parameters are float32.
    """

    channels: int
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    middle_attention: bool = True
    head: int = 32
    dropout: float = 0.0
    groups: int = 8
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B E"], keys: Keys | None = None
    ) -> Float[Array, "B H W {self.channels}"]:
        """Return the output feature map (float32), of the size of x.

        Args:
          condition: embedding of each row's condition (time, label ...).
          keys: PRNG keys of dropout; None for no dropout.
        """
        x = x.astype(self.dtype)
        condition = nn.silu(condition.astype(self.dtype))
        residual = nn.remat(Residual) if self.remat else Residual
        common = {"groups": self.groups, "dtype": self.dtype}
        # Every block has dropout noise of its own: its number is folded into the rows' keys.
        sites = itertools.count()

        def block(h: Array, features: int, name: str) -> Array:
            noise = fold(keys, next(sites))
            h = residual(features, self.dropout, name=name, **common)(h, condition, noise)
            return attention(h, f"{name}_attention") if max(h.shape[1:3]) in self.attention else h

        def attention(h: Array, name: str) -> Array:
            return Attention(self.head, name=name, **common)(h)

        conv = lambda features, name, **how: Conv(features, dtype=self.dtype, name=name, **how)
        h = conv(self.width, "in")(x)
        skips = [h]
        last = len(self.multipliers) - 1
        for level, multiplier in enumerate(self.multipliers):
            for i in range(self.blocks):
                h = block(h, multiplier * self.width, f"down{level}_{i}")
                skips.append(h)
            if level < last:
                # One row and column of padding on both sides: (size + 1) // 2, also for odd sizes.
                h = conv(multiplier * self.width, f"down{level}", strides=2, padding=((1, 1), (1, 1)))(h)
                skips.append(h)
        h = block(h, h.shape[-1], "middle_0")
        if self.middle_attention and max(h.shape[1:3]) not in self.attention:
            h = attention(h, "middle_attention")
        h = block(h, h.shape[-1], "middle_1")
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, multiplier * self.width, f"up{level}_{i}")
            if level:
                # A size that was rounded up on the contracting path is cut to the size of its skip.
                h = upsample(h)[:, : skips[-1].shape[1], : skips[-1].shape[2]]
                h = conv(h.shape[-1], f"up{level}")(h)
        h = GroupNorm(self.groups, silu=True, dtype=self.dtype, name="norm")(h)
        out = Conv(self.channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")
        return out(h).astype(jnp.float32)
