"""Compute divergences between distributions in closed form, in nats."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def kl_normal(
    mean: Float[Array, "*shape"],
    log_std: Float[Array, "*shape"],
    prior_mean: Float[Array, "*shape"] | float = 0.0,
    prior_log_std: Float[Array, "*shape"] | float = 0.0,
) -> Float[Array, "*shape"]:
    """Compute KL(N(mean, std^2) || N(prior_mean, prior_std^2)), elementwise.

    Kingma & Welling 2014 (arXiv:1312.6114), appendix B, for any diagonal prior.
    """
    difference = log_std - prior_log_std
    ratio = jnp.exp(2.0 * difference)
    squared = jnp.square((mean - prior_mean) * jnp.exp(-jnp.asarray(prior_log_std)))
    return 0.5 * (ratio + squared - 1.0) - difference


def kl_categorical(
    log_p: Float[Array, "*shape V"], log_q: Float[Array, "*shape V"]
) -> Float[Array, "*shape"]:
    """Compute KL(p || q) over the last axis, from normalised log-probabilities; 0 log 0 = 0."""
    p = jnp.exp(log_p)
    return jnp.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)
