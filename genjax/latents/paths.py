"""Interpolate between codes: along straight lines, and along great circles."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch
from genjax.latents.space import Space

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


def interpolate(space: Space, first: Batch, second: Batch, steps: int, path: Path = "slerp") -> Batch:
    """Return B * steps decoded rows: the path from each row of `first` to the same row of `second`.

    Conditions are those of the nearer end.

    Args:
      steps: of a path, its ends included; at least 2.
    """
    t = jnp.linspace(0.0, 1.0, steps)
    codes = along(space.encode(first), space.encode(second), t, path)
    begin = space.conditions(first)
    end = space.conditions(second)
    late = t >= 0.5
    given = {name: jax.vmap(lambda x, y: _chosen(late, y, x))(begin[name], end[name]) for name in begin}
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    return space.decode(flat(codes), {name: flat(x) for name, x in given.items()})


def _chosen(late: Float[Array, " T"], y: jax.Array, x: jax.Array) -> jax.Array:
    """Return y at the late steps and x at the others: T x ..."""
    return jnp.where(late.reshape(-1, *(1,) * x.ndim), y[None], x[None])
