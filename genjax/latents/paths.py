"""Interpolate between the codes of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch
from genjax.functional.paths import Path, along
from genjax.latents.space import Space


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
