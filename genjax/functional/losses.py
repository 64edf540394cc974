"""Compute losses of logits over a vocabulary: exact nats per token, with gradients that cost one pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Mean


def token_nats(logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """Compute -log softmax(logits)[target] in float32."""
    logits = logits.astype(jnp.float32)
    # The one-hot sum fuses with the exponentials; the gradient of a gather would be a scatter.
    hit = targets[..., None] == jax.lax.broadcasted_iota(targets.dtype, (*targets.shape, logits.shape[-1]), 2)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.where(hit, logits, 0).sum(-1)


def token_hits(logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """Return 1 where no token is more probable than the target, else 0."""
    hit = targets[..., None] == jax.lax.broadcasted_iota(targets.dtype, (*targets.shape, logits.shape[-1]), 2)
    target = jnp.where(hit, logits, -jnp.inf).max(-1)
    return (target >= logits.max(-1)).astype(jnp.float32)


def per_row(nats: Float[Array, "B T"], mask: Float[Array, "B T"]) -> Mean:
    """Return one Mean per row: its total nats and its number of unmasked tokens."""
    return Mean(jnp.where(mask > 0, nats * mask, 0).sum(-1), mask.sum(-1))
