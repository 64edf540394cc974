"""Compute points on the paths between arrays: straight lines and great circles."""

from __future__ import annotations

import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Path = Literal["slerp", "lerp"]


def along(
    a: Float[Array, "B *Z"], b: Float[Array, "B *Z"], t: Float[Array, " T"], path: Path = "slerp"
) -> Float[Array, "B T *Z"]:
    """Return the codes at the fractions t of the path from a to b.

    Args:
      path: "lerp", a straight line; or "slerp", a great circle (White 2016, arXiv:1609.04468). Draws of a
        normal distribution in many dimensions have nearly one norm, and the middle of a line between two is
        much shorter. The norm changes linearly along a slerp.
    """
    size = math.prod(a.shape[1:])
    x = a.reshape(a.shape[0], 1, size)
    y = b.reshape(b.shape[0], 1, size)
    t = t.reshape(1, -1, 1)
    points = x + t * (y - x) if path == "lerp" else _slerp(x, y, t)
    return points.reshape(a.shape[0], t.shape[1], *a.shape[1:])


def _slerp(
    x: Float[Array, "B 1 D"], y: Float[Array, "B 1 D"], t: Float[Array, "1 T 1"]
) -> Float[Array, "B T D"]:
    length = lambda v: jnp.sqrt(jnp.maximum(jnp.square(v).sum(-1, keepdims=True), 1e-12))
    norm_x = length(x)
    norm_y = length(y)
    u = x / norm_x
    v = y / norm_y
    angle = jnp.arccos(jnp.clip((u * v).sum(-1, keepdims=True), -1.0, 1.0))
    sine = jnp.sin(angle)
    # Parallel directions have no great circle of their own: the line between them is one.
    flat = sine < 1e-4
    safe = jnp.where(flat, 1.0, sine)
    direction = (jnp.sin((1 - t) * angle) * u + jnp.sin(t * angle) * v) / safe
    direction = jnp.where(flat, (1 - t) * u + t * v, direction)
    return direction * ((1 - t) * norm_x + t * norm_y)
