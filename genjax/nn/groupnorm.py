"""Group normalisation in two passes over the feature map, its scale, shift and activation folded in."""

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
    """Normalises each row over its pixels and a group's channels (Wu & He 2018, arXiv:1803.08494).

    One pass reduces to the mean and mean square of every (row, channel); everything of that size (groups,
    parameters, a condition's scale and shift) is combined into one slope and one intercept; a second pass
    applies them, and SiLU. In float32 inside; the result has x's dtype. It is plain differentiable code,
    so that forward mode and higher orders work.

    Args:
      groups: of neighbouring channels; must divide C.
      scale, shift: after the normalisation; b is 1 (parameters) or B (a condition's).
      silu: whether SiLU follows.

    Raises:
      ValueError: where `groups` does not divide C.
    """
    B, C = x.shape[0], x.shape[-1]
    if C % groups:
        raise ValueError(f"{groups} groups do not divide {C} channels")
    rows = x.astype(jnp.float32).reshape(B, -1, C)
    # Per channel first: the channels are contiguous, so both sums run along vector lanes.
    average = lambda v: v.mean(1).reshape(B, groups, C // groups).mean(-1)
    mean, square = average(rows), average(jnp.square(rows))
    inverse = lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0.0) + epsilon)
    channels = lambda v: jnp.repeat(v, C // groups, axis=-1)
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
    """group_norm with parameters "scale" and "bias" (float32), or a condition's in their place.

    Attributes:
      groups: at most so many; fewer where they do not divide the channels.
      affine: whether it learns a scale and a shift; without, the call may be given them.
      silu: whether SiLU follows.
      dtype: of the result.
    """

    groups: int = 8
    affine: bool = True
    silu: bool = False
    dtype: Any = jnp.float32

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
        return group_norm(x.astype(self.dtype), math.gcd(self.groups, C), scale, shift, silu=self.silu)
