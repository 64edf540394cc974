"""Embeddings of the time (or noise level) that a denoiser is asked about."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def sinusoid(t: Float[Array, " B"], width: int, scale: float = 1000.0, longest: float = 10_000.0) -> Array:
    """Sines and cosines of t at geometric wavelengths: (B, width), as positions are shown to a transformer.

    Args:
      t: in [0, 1].
      width: even: half sines, half cosines.
      scale: how many positions t = 1 stands for (Ho et al. 2020 number 1000 steps).
      longest: the ratio of the longest wavelength to the shortest.
    """
    frequency = jnp.exp(jnp.arange(width // 2, dtype=jnp.float32) * (-math.log(longest) / (width // 2)))
    angle = scale * t.astype(jnp.float32)[:, None] * frequency[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


class TimeEmbedding(nn.Module):
    """A sinusoid read by a two-layer SiLU network: (B,) -> (B, width).

    Attributes:
      width: of the output and the hidden layer.
      frequencies: the sinusoid's width; even.
      dtype: of the computation.
    """

    width: int
    frequencies: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, t: Float[Array, " B"]) -> Float[Array, "B width"]:
        h = sinusoid(t, self.frequencies).astype(self.dtype)
        h = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="inner")(h))
        return nn.Dense(self.width, dtype=self.dtype, name="outer")(h)
