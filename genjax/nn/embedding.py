"""Embed tokens and positions: table lookups whose gradient is a matrix product, and rotary positions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SMALL = 2048
"""Largest vocabulary whose gradient is computed as a product with one-hot rows instead of a scatter."""


@jax.custom_vjp
def lookup(table: Float[Array, "V W"], tokens: Int[Array, "*B"]) -> Float[Array, "*B W"]:
    """Return table[tokens].

    On a CPU a scatter adds one row at a time; the gradient of a small table is a matrix product instead.
    """
    return table[tokens]


def _lookup_fwd(table, tokens):
    return table[tokens], (tokens, table)


def _lookup_bwd(saved, g):
    tokens, table = saved
    flat = tokens.reshape(-1)
    g = g.reshape(-1, g.shape[-1])
    if table.shape[0] <= SMALL:
        one_hot = jax.nn.one_hot(flat, table.shape[0], dtype=g.dtype)
        return (one_hot.T @ g).astype(table.dtype), None
    return jnp.zeros_like(table).at[flat].add(g.astype(table.dtype)), None


lookup.defvjp(_lookup_fwd, _lookup_bwd)


@functools.partial(jax.jit, static_argnames=("base",))
def rotary(
    x: Float[Array, "B T H D"], positions: Int[Array, "B T"], base: float = 10_000.0
) -> Float[Array, "B T H D"]:
    """Rotate the pairs (x_i, x_{i + D/2}) by the angle position * base^(-2i/D), i = 0 ... D/2 - 1.

    Su et al. 2021, arXiv:2104.09864, eq. 34, with the pairing by halves of GPT-NeoX and LLaMA. Angles are
    computed in float32; the result has x's dtype.
    """
    half = x.shape[-1] // 2
    # base^(-2i/D) = base^(-i/half), in radians a position.
    rate = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[:, :, None, None] * rate[None, None, None, :]
    cos = jnp.cos(angle)
    sin = jnp.sin(angle)
    a = x[..., :half].astype(jnp.float32)
    b = x[..., half:].astype(jnp.float32)
    # The rotation matrix [[cos, -sin], [sin, cos]] applied to (a, b).
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def rotary_plane(
    x: Float[Array, "B T H D"], positions: Int[Array, "B T 2"], base: float = 10_000.0
) -> Float[Array, "B T H D"]:
    """Rotate one half of the features by the row and the other by the column of each token.

    Axial rotary positions (Heo et al. 2024, arXiv:2403.13298, sec. 3.1): inner products depend on the
    differences of rows and of columns.
    """
    half = x.shape[-1] // 2
    parts = [rotary(x[..., :half], positions[..., 0], base), rotary(x[..., half:], positions[..., 1], base)]
    return jnp.concatenate(parts, -1)


def sinusoids(positions: Int[Array, "B T"], width: int) -> Float[Array, "B T {width}"]:
    """Compute sin and cos of position / 10000^(i / (width / 2 - 1)), the sines first.

    The encoding is that of Vaswani et al. 2017, section 3.5, with the spacing and order of tensor2tensor.
    """
    half = width // 2
    rate = jnp.exp(jnp.arange(half) * (-jnp.log(1e4) / max(half - 1, 1)))
    angle = positions[..., None].astype(jnp.float32) * rate[None, None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
