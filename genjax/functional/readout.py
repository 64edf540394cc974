"""The loss of a large vocabulary without its logits: losses and gradients, a few positions at a time.

Logits of 4,096 tokens over 10,000 words are 164 MB, which the ordinary form writes and reads several times.
Here they are formed for a few positions at once, where they stay in the processor's cache, and the gradients
are made beside the loss, so that nothing of their size is kept and nothing is formed twice: on two shared
cores a third of the ordinary form's time.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHUNK = 1 << 20
"""Logits that are formed at once."""


class Readout(NamedTuple):
    """Sums over the weighted positions. Only `loss` has a gradient.

    Attributes:
      loss: cross entropy to the smoothed target, in nats.
      nats: cross entropy to the target itself.
      hits: how many targets are the likeliest token.
    """

    loss: Float[Array, ""]
    nats: Float[Array, ""]
    hits: Float[Array, ""]


def readout(
    x: Float[Array, "B T W"],
    table: Float[Array, "V W"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    smoothing: float = 0.0,
) -> Readout:
    """Losses of the logits x table^T + bias.

    Args:
      smoothing: e; the target has probability 1 - e + e/V and every other token e/V (Szegedy et al. 2016,
        arXiv:1512.00567, sec. 7).
    """
    x, table, bias, targets, weights, size = _whole(x, table, bias, targets, weights)
    sums: Any = _sums(x, table, bias, targets, weights, smoothing, size)  # custom_vjp hides its type
    return Readout(*sums)


def row_nats(
    x: Float[Array, "B T W"],
    table: Float[Array, "V W"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
) -> Float[Array, " B"]:
    """Each row's weighted nats, of which the same is true; for scores, without a gradient of its own."""
    x, table, bias, targets, weights, size = _whole(x, table, bias, targets, weights)

    def part(sums, piece):
        _, (_, nats, _), _ = _piece(piece, table, bias, 0.0)
        return sums + nats.reshape(sums.shape[0], -1).sum(1), None

    return jax.lax.scan(part, jnp.zeros((x.shape[0],)), _pieces((x, targets, weights), size))[0]


def _whole(x, table, bias, targets, weights):
    """The arrays padded to whole pieces, and how many positions a piece has."""
    T = x.shape[1]
    size = min(T, max(1, CHUNK // (x.shape[0] * table.shape[0])))
    size = math.ceil(T / math.ceil(T / size))
    if pad := -T % size:
        x = jnp.pad(x, ((0, 0), (0, pad), (0, 0)))
        targets, weights = (jnp.pad(a, ((0, 0), (0, pad))) for a in (targets, weights))
    bias = jnp.zeros((table.shape[0],), jnp.float32) if bias is None else bias
    return x, table, bias, targets, weights, size


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _sums(x, table, bias, targets, weights, smoothing: float, size: int):
    def part(sums, piece):
        _, stats, _ = _piece(piece, table, bias, smoothing)
        return tuple(a + b.sum() for a, b in zip(sums, stats, strict=True)), None

    sums, _ = jax.lax.scan(part, (jnp.zeros(()),) * 3, _pieces((x, targets, weights), size))
    return sums


def _sums_fwd(x, table, bias, targets, weights, smoothing: float, size: int):
    def part(carry, piece):
        sums, d_table, d_bias = carry
        logits, stats, (lse, hit) = _piece(piece, table, bias, smoothing)
        w = piece[2].reshape(-1, 1)
        smooth = smoothing / table.shape[0]
        # The gradient of the loss: probabilities minus the smoothed target.
        g = (jnp.exp(logits - lse) - smooth - jnp.where(hit, 1 - smoothing, 0)) * w
        g = g.astype(x.dtype)
        flat = piece[0].reshape(-1, x.shape[-1])
        dx = (g @ table.astype(x.dtype)).reshape(piece[0].shape)
        d_table = d_table + jax.lax.dot_general(
            g, flat, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )
        d_bias = d_bias + g.astype(jnp.float32).sum(0)
        sums = tuple(a + b.sum() for a, b in zip(sums, stats, strict=True))
        return (sums, d_table, d_bias), dx

    start = ((jnp.zeros(()),) * 3, jnp.zeros(table.shape, jnp.float32), jnp.zeros(bias.shape, jnp.float32))
    (sums, d_table, d_bias), dx = jax.lax.scan(part, start, _pieces((x, targets, weights), size))
    dx = jnp.moveaxis(dx, 0, 1).reshape(x.shape)
    return sums, (dx, d_table.astype(table.dtype), d_bias.astype(bias.dtype), weights)


def _sums_bwd(smoothing: float, size: int, saved, cotangents):
    dx, d_table, d_bias, weights = saved
    ct = cotangents[0]
    return dx * ct.astype(dx.dtype), d_table * ct, d_bias * ct, None, jnp.zeros_like(weights)


_sums.defvjp(_sums_fwd, _sums_bwd)


def _pieces(arrays, size: int):
    """Divided along T, so that rows stay on their device."""
    return tuple(jnp.moveaxis(a.reshape(a.shape[0], -1, size, *a.shape[2:]), 1, 0) for a in arrays)


def _piece(piece, table, bias, smoothing: float):
    """Logits (N x V) of one piece, three weighted losses, and (log of the partition, where the target is)."""
    x, targets, weights = piece
    flat = x.reshape(-1, x.shape[-1])
    V = table.shape[0]
    logits = jax.lax.dot_general(
        flat, table.astype(x.dtype), (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    logits = logits + bias.astype(jnp.float32)[None]
    y, w = targets.reshape(-1, 1), weights.reshape(-1)
    hit = y == jax.lax.broadcasted_iota(y.dtype, (1, V), 1)
    top = logits.max(-1, keepdims=True)
    lse = top + jnp.log(jnp.exp(logits - top).sum(-1, keepdims=True))
    target = jnp.take_along_axis(logits, y, axis=1)
    nats = (lse - target)[:, 0]
    loss = nats
    if smoothing:
        loss = (1 - smoothing) * nats + smoothing * (lse[:, 0] - logits.mean(-1))
    hits = (target >= top)[:, 0].astype(jnp.float32)
    stats = tuple(jnp.where(w > 0, s * w, 0) for s in (loss, nats, hits))
    return logits, stats, (lse, hit)
