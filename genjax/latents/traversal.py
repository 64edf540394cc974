"""Move one dimension of a code at a time."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch
from genjax.latents.space import Space


def traverse(
    space: Space,
    row: Batch,
    codes: Float[Array, "N *Z"],
    dims: Int[Array, " D"],
    steps: int,
    span: float = 2.5,
) -> Batch:
    """Return D * steps decoded rows: the code of a row with one dimension at a time set to `steps` values.

    Args:
      row: one row (a batch of size 1).
      codes: of many rows: a dimension's values lie within `span` of their standard deviations around their
        mean.
      dims: of the flattened code.
    """
    size = math.prod(codes.shape[1:])
    many = codes.reshape(-1, size)
    mean = many.mean(0)[dims]
    reach = span * many.std(0)[dims]
    values = mean[:, None] + reach[:, None] * jnp.linspace(-1.0, 1.0, steps)[None]
    base = jnp.broadcast_to(space.encode(row).reshape(1, 1, size), (dims.shape[0], steps, size))
    moved = jnp.arange(size)[None, None] == dims[:, None, None]
    found = jnp.where(moved, values[:, :, None], base).reshape(-1, *codes.shape[1:])
    count = found.shape[0]
    given = {name: jnp.repeat(x, count, 0) for name, x in space.conditions(row).items()}
    return space.decode(found, given)


def widest(codes: Float[Array, "N *Z"], most: int) -> Int[Array, " D"]:
    """Return the dimensions whose codes vary the most, in falling order: of the flattened code."""
    spread = codes.reshape(codes.shape[0], -1).std(0)
    return jnp.argsort(-spread)[:most]
