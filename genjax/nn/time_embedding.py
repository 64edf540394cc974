"""Embed the diffusion time (or noise level) that conditions a denoiser."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def sinusoid(
    t: Float[Array, " B"],
    width: int,
    scale: float = 1000.0,
    longest: float = 10_000.0,
    *,
    cosine_first: bool = False,
    shift: int = 0,
) -> Float[Array, "B width"]:
    """Compute sines and cosines of t at geometric wavelengths, as a (B, width) array.

    The sinusoidal positions of Vaswani et al. 2017 (arXiv:1706.03762, sec. 3.5) at position scale * t.

    Args:
      t: times in [0, 1].
      width: even; half sines, half cosines.
      scale: position of t = 1 (Ho et al. 2020 use 1000 steps).
      longest: ratio of the longest wavelength to the shortest.
      cosine_first: the cosines come before the sines.
      shift: frequency i is longest^(-i / (width / 2 - shift)); 1 reaches the longest wavelength.
    """
    half = width // 2
    frequency = jnp.exp(jnp.arange(half, dtype=jnp.float32) * (-math.log(longest) / (half - shift)))
    angle = scale * t.astype(jnp.float32)[:, None] * frequency[None]
    parts = [jnp.sin(angle), jnp.cos(angle)]
    return jnp.concatenate(parts[::-1] if cosine_first else parts, axis=1)


class TimeEmbedding(nn.Module):
    """Embed times with a sinusoid and a two-layer SiLU network: (B,) -> (B, width).

    Attributes:
      width: width of the output and of the hidden layer.
      frequencies: width of the sinusoid; even.
      dtype: dtype of the computation.
      cosine_first, shift: of the sinusoid.
    """

    width: int
    frequencies: int
    dtype: Any = jnp.float32
    cosine_first: bool = False
    shift: int = 0

    @nn.compact
    def __call__(self, t: Float[Array, " B"]) -> Float[Array, "B width"]:
        h = sinusoid(t, self.frequencies, cosine_first=self.cosine_first, shift=self.shift).astype(self.dtype)
        h = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="inner")(h))
        return nn.Dense(self.width, dtype=self.dtype, name="outer")(h)
