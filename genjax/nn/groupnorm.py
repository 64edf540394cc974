"""Normalise groups of channels in two passes over the feature map, with scale, shift and SiLU fused."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def group_norm(
    x: Float[Array, "B *S C"],
    groups: int,
    scale: Float[Array, "b C"] | None = None,
    shift: Float[Array, "b C"] | None = None,
    *,
    silu: bool = False,
    epsilon: float = 1e-6,
) -> Float[Array, "B *S C"]:
    """Normalise each row over its pixels and each group's channels (Wu & He 2018, arXiv:1803.08494, eq. 7).

    The first pass computes the mean and the mean square of every (row, channel). Everything of that size
    (group statistics, parameters, a condition's scale and shift) is combined into one slope and one
    intercept. The second pass applies them and SiLU. The computation is in float32; the result has x's
    dtype. There is no custom derivative, so that forward mode and higher orders work.

    Args:
      groups: number of groups of neighbouring channels; must divide C.
      scale, shift: applied after the normalisation; b is 1 (parameters) or B (from a condition).
      silu: apply SiLU to the result.
      epsilon: added to the variance.

    Raises:
      ValueError: if `groups` does not divide C.
    """
    B = x.shape[0]
    C = x.shape[-1]
    if C % groups:
        raise ValueError(f"{groups} groups do not divide {C} channels")
    rows = x.astype(jnp.float32).reshape(B, -1, C)
    # Sum over pixels first, per channel: channels are contiguous, so that the sums run along vector lanes.
    average = lambda v: v.mean(1).reshape(B, groups, C // groups).mean(-1)
    mean = average(rows)
    square = average(jnp.square(rows))
    # Var[x] = E[x^2] - E[x]^2 needs one pass; rounding may make it slightly negative.
    inverse = lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0.0) + epsilon)
    channels = lambda v: jnp.repeat(v, C // groups, axis=-1)
    # (x - mean) * inverse * scale + shift = x * slope + intercept.
    slope = channels(inverse)
    if scale is not None:
        slope = slope * scale.astype(jnp.float32)
    intercept = -channels(mean) * slope
    if shift is not None:
        intercept = intercept + shift.astype(jnp.float32)
    y = rows * slope[:, None] + intercept[:, None]
    y = jax.nn.silu(y) if silu else y
    return y.reshape(x.shape).astype(x.dtype)


class GroupNorm(nn.Module):
    """Apply group_norm with learned parameters "scale" and "bias" (float32), or with a condition's.

    Attributes:
      groups: largest number of groups; gcd(groups, C) are used.
      affine: learn a scale and a shift; if False, the caller may pass them.
      silu: apply SiLU to the result.
      dtype: dtype of the result.
      epsilon: added to the variance.
    """

    groups: int = 8
    affine: bool = True
    silu: bool = False
    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *S C"],
        scale: Float[Array, "B C"] | None = None,
        shift: Float[Array, "B C"] | None = None,
    ) -> Float[Array, "B *S C"]:
        C = x.shape[-1]
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (C,))[None]
            shift = self.param("bias", nn.initializers.zeros, (C,))[None]
        groups = math.gcd(self.groups, C)
        how = {"silu": self.silu, "epsilon": self.epsilon}
        return group_norm(x.astype(self.dtype), groups, scale, shift, **how)
