"""Normalise over the last axis, in float32 whatever the input's dtype.

LayerNorm removes what all features have in common: the gradient of a preceding bias is zero in that direction
but for rounding, and Adam turns the rounding into drift.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class LayerNorm(nn.Module):
    """Compute (x - mean) / sqrt(variance + epsilon) * scale + bias (Ba et al. 2016, arXiv:1607.06450)."""

    epsilon: float = 1e-5
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*B W"]) -> Float[Array, "*B W"]:
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        y = y * _over(self.param("scale", nn.initializers.ones, (x.shape[-1],)), y)
        if self.bias:
            y = y + _over(self.param("bias", nn.initializers.zeros, (x.shape[-1],)), y)
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """Compute x / sqrt(mean(x^2) + epsilon) * scale (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "*B W"]) -> Float[Array, "*B W"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        y = y * _over(self.param("scale", nn.initializers.ones, (x.shape[-1],)), y)
        return y.astype(x.dtype)


def norm(kind: str, *, bias: bool, epsilon: float = 1e-5, name: str | None = None) -> nn.Module:
    """Return the norm of this kind: "layernorm", or "rmsnorm", which has no bias.

    Args:
      name: submodule name, needed in a compact method; None in `setup`, where the attribute names it.
    """
    return LayerNorm(epsilon, bias, name=name) if kind == "layernorm" else RMSNorm(epsilon, name=name)


def _over(vector: Float[Array, " W"], x: Float[Array, "*B W"]) -> Float[Array, "*_ W"]:
    """Reshape the vector to as many axes as x has (rank promotion is an error)."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
