"""Reduce arrays of rows."""

from __future__ import annotations

from jaxtyping import Array, Float


def sum_row(x: Float[Array, "B *S"]) -> Float[Array, " B"]:
    """Sum over all axes but the first."""
    return x.reshape(x.shape[0], -1).sum(-1)
