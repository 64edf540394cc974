"""Residual fully connected network whose blocks are modulated by a condition, for vectors."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.nn.dropout import dropout, fold


class ModulatedBlock(nn.Module):
    """Add Dense, SiLU, dropout, Dense of LayerNorm(x), scaled and shifted by the condition.

    The modulation is that of adaptive layer norm (Peebles & Xie 2023, arXiv:2212.09748, sec. 3.2).

    Attributes:
      dropout: its rate.
      dtype: of the computation; parameters are float32.
    """

    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B W"], condition: Float[Array, "B E"], keys: Keys | None = None
    ) -> Float[Array, "B W"]:
        width = x.shape[-1]
        h = modulate(x, nn.Dense(2 * width, dtype=self.dtype, name="film")(condition))
        h = nn.silu(nn.Dense(width, dtype=self.dtype, name="dense_in")(h))
        h = dropout(h, self.dropout, keys)
        # Zeros: every block is the identity at first.
        zeros = nn.initializers.zeros
        return x + nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="dense_out")(h)


class ResidualMLP(nn.Module):
    """Map a vector and a condition to a vector.

    Attributes:
      features: of the output.
      width: of the residual stream.
      blocks: how many.
      dropout: rate within the blocks.
      dtype: of the computation; parameters are float32, and so is the output.
    """

    features: int
    width: int = 128
    blocks: int = 3
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B D"], condition: Float[Array, "B E"], keys: Keys | None = None
    ) -> Float[Array, "B {self.features}"]:
        condition = nn.silu(condition.astype(self.dtype))
        h = nn.Dense(self.width, dtype=self.dtype, name="in")(x.astype(self.dtype))
        for i in range(self.blocks):
            block = ModulatedBlock(self.dropout, self.dtype, name=f"block_{i}")
            h = block(h, condition, fold(keys, i))
        h = modulate(h, nn.Dense(2 * self.width, dtype=self.dtype, name="film")(condition))
        out = nn.Dense(self.features, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")
        return out(nn.silu(h)).astype(jnp.float32)


def modulate(x: Float[Array, "B W"], film: Float[Array, "B W2"]) -> Float[Array, "B W"]:
    """Compute LayerNorm(x) (1 + scale) + shift; `film` holds scale and shift. The norm has no parameters."""
    scale, shift = jnp.split(film, 2, axis=-1)
    norm = nn.LayerNorm(use_bias=False, use_scale=False, dtype=x.dtype)
    return norm(x) * (1 + scale) + shift
