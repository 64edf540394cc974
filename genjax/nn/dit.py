"""Define the diffusion transformer: a transformer over the patches of an image, modulated by a condition.

Peebles & Xie 2023 (arXiv:2212.09748, sec. 3.2, "adaLN-Zero"). Arrays are B x H x W x C.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.nn.attention_layers import Attention, CrossAttention
from genjax.nn.dropout import fold
from genjax.nn.linear import Linear
from genjax.nn.transformer import MLP, Stack


def to_patches(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B T D"]:
    """Cut images into T = H/size * W/size patches of D = size * size * C values, in raster order."""
    B, H, W, C = x.shape
    x = x.reshape(B, H // size, size, W // size, size, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, size * size * C)


def from_patches(x: Float[Array, "B T D"], shape: tuple[int, int], size: int) -> Float[Array, "B H W C"]:
    """Join the patches that `to_patches` cut from images of this height and width."""
    B = x.shape[0]
    H, W = shape
    x = x.reshape(B, H // size, W // size, size, size, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, -1)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Return sines and cosines of each patch's column and row, (rows * columns, width).

    Half of the features encode the column and half the row, as in the authors' code, each as in Vaswani et
    al. 2017 (arXiv:1706.03762, sec. 3.5). `width` must be a multiple of 4.
    """
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    encode = lambda n: np.concatenate([f(np.outer(np.arange(n), frequency)) for f in (np.sin, np.cos)], 1)
    row = np.repeat(encode(rows), columns, axis=0)
    column = np.tile(encode(columns), (rows, 1))
    return np.concatenate([column, row], axis=1).astype(np.float32)


class ModulatedBlock(nn.Module):
    """Apply self-attention and an MLP, each as a residual branch that the condition modulates.

    A branch is gate * f(norm(x) (1 + scale) + shift). The gates are zero at first: the block is then the
    identity.
    """

    stack: Stack
    layer: int

    def setup(self):
        s = self.stack
        self.film = nn.Dense(6 * s.width, dtype=s.dtype, kernel_init=nn.initializers.zeros)
        self.attention = Attention(s.attention(self.layer))
        self.mlp = MLP(s)
        if s.cross:
            # Its output is zero at first, as in PixArt (Chen et al. 2023, arXiv:2310.00426, sec. 2.3).
            self.cross = CrossAttention(dataclasses.replace(s.attention(self.layer, cross=True), out_std=0.0))

    def __call__(
        self,
        x: Float[Array, "B T W"],
        condition: Float[Array, "B E"],
        at: Int[Array, "1 T 2"],
        keys: Keys | None,
        states: tuple[Float[Array, "B L S"], Float[Array, "B L"]] | None,
    ) -> Float[Array, "B T W"]:
        film = jnp.split(self.film(condition)[:, None], 6, axis=-1)
        h, _ = self.attention(modulate(x, film[0], film[1], self.stack), at, None, fold(keys, 0))
        x = x + film[2] * h
        if states is not None:
            still = jnp.zeros_like(film[0])
            memory = self.cross.remember(states[0])
            x = x + self.cross(modulate(x, still, still, self.stack), memory, fold(keys, 2), mask=states[1])
        return x + film[5] * self.mlp(modulate(x, film[3], film[4], self.stack), fold(keys, 1))


def modulate(
    x: Float[Array, "B T W"], shift: Float[Array, "B 1 W"], scale: Float[Array, "B 1 W"], stack: Stack
) -> Float[Array, "B T W"]:
    """Compute norm(x) (1 + scale) + shift with the stack's kind of norm, without parameters of its own."""
    y = x.astype(jnp.float32)
    if stack.norm == "layernorm":
        y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + stack.norm_epsilon)
    return y.astype(x.dtype) * (1 + scale) + shift


class DiT(nn.Module):
    """Map images, a condition and, with `stack.cross`, a sequence of text states to images of the same size.

    Attributes:
      channels: of the output.
      patch: side of a patch in pixels; it divides the image's height and width.
      stack: of the blocks; its `causal`, `prenorm` and `final_norm` are not used. With `rope` the
        positions are rotary, of rows and columns; else they are added to the patches.
    """

    channels: int
    patch: int
    stack: Stack

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        condition: Float[Array, "B E"],
        keys: Keys | None = None,
        states: tuple[Float[Array, "B L S"], Float[Array, "B L"]] | None = None,
    ) -> Float[Array, "B H W {self.channels}"]:
        """Return the output images (float32); arguments as in UNet.

        Args:
          states: of the text, and their mask (0 on padding).
        """
        s = self.stack
        shape = (x.shape[1], x.shape[2])
        condition = nn.silu(condition.astype(s.dtype))
        patches = to_patches(x.astype(s.dtype), self.patch)
        h = Linear(s.width, bias=True, std=patches.shape[-1] ** -0.5, dtype=s.dtype, name="in")(patches)
        rows, columns = shape[0] // self.patch, shape[1] // self.patch
        if not s.rope:
            h = h + jnp.asarray(positions(rows, columns, s.width), h.dtype)[None]
        at = jnp.stack(jnp.divmod(jnp.arange(rows * columns), columns), -1)[None]
        block = nn.remat(ModulatedBlock) if s.remat else ModulatedBlock
        for i in range(s.layers):
            h = block(s, i, name=f"block_{i}")(h, condition, at, fold(keys, i), states)
        zeros = nn.initializers.zeros
        film = nn.Dense(2 * s.width, dtype=s.dtype, kernel_init=zeros, name="film")(condition)
        shift, scale = jnp.split(film[:, None], 2, axis=-1)
        h = modulate(h, shift, scale, s)
        out = nn.Dense(self.patch**2 * self.channels, dtype=s.dtype, kernel_init=zeros, name="out")
        return from_patches(out(h), shape, self.patch).astype(jnp.float32)
