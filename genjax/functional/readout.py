"""Compute the loss over a large vocabulary, and its gradients, for a few positions at a time.

The logits of 4,096 tokens over 10,000 words are 164 MB, which the ordinary form writes and reads several
times. Here the logits of a few positions are computed at once, so that they stay in the processor's cache.
The gradients are computed together with the loss: no logits are kept, and none are computed twice. On two
shared cores this takes a third of the time of the ordinary form.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHUNK = 1 << 20
"""Number of logits that are computed at once."""


class Readout(NamedTuple):
    """Hold sums over the weighted positions. Only `loss` has a gradient.

    Attributes:
      loss: cross entropy to the smoothed target, in nats.
      nats: cross entropy to the target itself.
      hits: number of targets than which no token is more probable.
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
    """Compute the losses of the logits x table^T + bias.

    Args:
      smoothing: e; the target has probability 1 - e + e/V and every other token e/V (Szegedy et al. 2016,
        arXiv:1512.00567, section 7).
    """
    x, table, bias, targets, weights, size = _whole(x, table, bias, targets, weights)
    sums: Any = _sums(x, table, bias, targets, weights, smoothing, size)  # custom_vjp hides the type
    return Readout(*sums)


def row_nats(
    x: Float[Array, "B T W"],
    table: Float[Array, "V W"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
) -> Float[Array, " B"]:
    """Compute the weighted nats of each row in pieces. For scores: it has no custom derivative."""
    x, table, bias, targets, weights, size = _whole(x, table, bias, targets, weights)

    def part(sums, piece):
        _, (_, nats, _), _ = _piece(piece, table, bias, 0.0)
        return sums + nats.reshape(sums.shape[0], -1).sum(1), None

    return jax.lax.scan(part, jnp.zeros((x.shape[0],)), _pieces((x, targets, weights), size))[0]


def _whole(x, table, bias, targets, weights):
    """Return the arrays padded to whole pieces, a bias, and the number of positions of a piece."""
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
    """Return the sums of (loss, nats, hits) over all positions."""

    def part(sums, piece):
        _, stats, _ = _piece(piece, table, bias, smoothing)
        return tuple(a + b.sum() for a, b in zip(sums, stats, strict=True)), None

    sums, _ = jax.lax.scan(part, (jnp.zeros(()),) * 3, _pieces((x, targets, weights), size))
    return sums


def _sums_fwd(x, table, bias, targets, weights, smoothing: float, size: int):
    """Return the sums, and the gradients of the loss as residuals."""

    def part(carry, piece):
        sums, d_table, d_bias = carry
        logits, stats, (lse, hit) = _piece(piece, table, bias, smoothing)
        w = piece[2].reshape(-1, 1)
        smooth = smoothing / table.shape[0]
        # The gradient with respect to the logits: probabilities minus the smoothed target.
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
    """Scale the saved gradients by the cotangent of the loss."""
    dx, d_table, d_bias, weights = saved
    ct = cotangents[0]
    return dx * ct.astype(dx.dtype), d_table * ct, d_bias * ct, None, jnp.zeros_like(weights)


_sums.defvjp(_sums_fwd, _sums_bwd)


def _pieces(arrays, size: int):
    """Divide the arrays along T, so that rows stay on their device."""
    return tuple(jnp.moveaxis(a.reshape(a.shape[0], -1, size, *a.shape[2:]), 1, 0) for a in arrays)


def _piece(piece, table, bias, smoothing: float):
    """Return logits (N x V) of a piece, weighted (loss, nats, hits), and (log partition, target one-hot)."""
    x, targets, weights = piece
    flat = x.reshape(-1, x.shape[-1])
    V = table.shape[0]
    logits = jax.lax.dot_general(
        flat, table.astype(x.dtype), (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    logits = logits + bias.astype(jnp.float32)[None]
    y = targets.reshape(-1, 1)
    w = weights.reshape(-1)
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
