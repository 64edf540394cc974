"""Tokens and positions as vectors: tables whose gradient is a product, and rotary positions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

SMALL = 2048
"""Vocabularies up to this size take their gradient as a one-hot product instead of a scatter."""


@jax.custom_vjp
def lookup(table: Float[Array, "V W"], tokens: Int[Array, "*B"]) -> Float[Array, "*B W"]:
    """table[tokens]. On a CPU a scatter runs one row at a time, so a small table's gradient is a product."""
    return table[tokens]


def _lookup_fwd(table, tokens):
    return table[tokens], (tokens, table)


def _lookup_bwd(saved, g):
    tokens, table = saved
    flat, g = tokens.reshape(-1), g.reshape(-1, g.shape[-1])
    if table.shape[0] <= SMALL:
        one_hot = jax.nn.one_hot(flat, table.shape[0], dtype=g.dtype)
        return (one_hot.T @ g).astype(table.dtype), None
    return jnp.zeros_like(table).at[flat].add(g.astype(table.dtype)), None


lookup.defvjp(_lookup_fwd, _lookup_bwd)


def positions(tokens: Shaped[Array, "B T *K"]) -> Int[Array, "B T"]:
    """Return 0, 1, ..., T - 1 for every row."""
    return jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape[:2])


@functools.partial(jax.jit, static_argnames=("base",))
def rotary(
    x: Float[Array, "B T H D"], positions: Int[Array, "B T"], base: float = 10_000.0
) -> Float[Array, "B T H D"]:
    """Rotary positions: pairs (x_i, x_{i + D/2}) turned by position * base^(-2i/D).

    Su et al. 2021, arXiv:2104.09864, eq. 34; the pairing by halves is that of GPT-NeoX and LLaMA.
    """
    half = x.shape[-1] // 2
    rate = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[:, :, None, None] * rate[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
