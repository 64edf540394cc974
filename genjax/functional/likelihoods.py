"""Compute elementwise log-probabilities, in nats, under the output distributions of decoders.

A discrete distribution is one over levels k in [0, levels); level k has the value v = 2k / (levels - 1) - 1
(functional/pixels.py). Its probabilities sum to one, so that its bits per dimension can be compared with
those of any other discrete model. Densities of real values cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Integer


def bernoulli(logits: Float[Array, "*shape"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Compute x log p + (1 - x) log(1 - p) with p = sigmoid(logits).

    This is a log-probability if x is 0 or 1. For grey values in between it is the negative cross-entropy that
    is often used as a loss, and not a likelihood: it does not integrate to one.
    """
    # softplus(l) = max(l, 0) + log(1 + exp(-|l|)) takes a third of the time of jax.nn.softplus, which treats
    # infinities and NaN apart.
    return x * logits - jnp.maximum(logits, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


def normal(
    mean: Float[Array, "*shape"], log_std: Float[Array, "*shape"], x: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Compute the log density of N(mean, std^2)."""
    return -0.5 * jnp.square((x - mean) * jnp.exp(-log_std)) - log_std - 0.5 * math.log(2 * math.pi)


def discretised_logistic(
    mean: Float[Array, "*shape"],
    log_scale: Float[Array, "*shape"],
    image: Integer[Array, "*shape"],
    levels: int,
) -> Float[Array, "*shape"]:
    """Compute log P(level) of a logistic rounded to the nearest level (Salimans et al. 2017, sec. 2.1).

    The lowest and the highest level include the tails. The difference sigmoid(u) - sigmoid(l) is computed as
    sigmoid(u) sigmoid(-l) (1 - exp(l - u)), which keeps its precision in both tails.
    """
    lower, upper, width = _bin(mean, log_scale, image, levels)
    inside = jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower) + log1mexp(width)
    return _with_tails(inside, jax.nn.log_sigmoid(upper), jax.nn.log_sigmoid(-lower), image, levels)


def discretised_normal(
    mean: Float[Array, "*shape"],
    log_std: Float[Array, "*shape"],
    image: Integer[Array, "*shape"],
    levels: int,
) -> Float[Array, "*shape"]:
    """Compute log P(level) of a normal rounded to the nearest level (Ho et al. 2020, eq. 13)."""
    lower, upper, _ = _bin(mean, log_std, image, levels)
    # Both ends are mirrored into the lower tail, where log_ndtr keeps its precision.
    flip = lower + upper > 0
    a = jnp.where(flip, -upper, lower)
    b = jnp.where(flip, -lower, upper)
    log_b = log_ndtr(b)
    inside = log_b + log1mexp(jnp.maximum(log_b - log_ndtr(a), 1e-12))
    return _with_tails(inside, log_ndtr(upper), log_ndtr(-lower), image, levels)


def log1mexp(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Compute log(1 - exp(-x)) for x > 0, accurate at both ends (Maechler 2012)."""
    small = x < math.log(2.0)
    near = jnp.where(small, x, 1.0)
    far = jnp.where(small, 1.0, x)
    return jnp.where(small, jnp.log(-jnp.expm1(-near)), jnp.log1p(-jnp.exp(-far)))


def log_mean_exp(x: Float[Array, "K *shape"]) -> Float[Array, "*shape"]:
    """Compute log of the mean of exp(x) over the first axis: the importance-weighted bound of K samples."""
    return jax.nn.logsumexp(x, axis=0) - math.log(x.shape[0])


def log_mean_exp_of(
    function: Callable[[jax.Array], Float[Array, " B"]], count: int, rows: int
) -> Float[Array, " B"]:
    """Compute log of the mean of exp(function(k)) over k < count, in memory that is flat in `count`."""

    def add(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        return jnp.logaddexp(total, function(k)), None

    total, _ = jax.lax.scan(add, jnp.full((rows,), -jnp.inf), jnp.arange(count))
    return total - math.log(count)


def _bin(mean: jax.Array, log_scale: jax.Array, image: jax.Array, levels: int):
    """Return the level's interval in units of the scale: (lower end, upper end, width)."""
    value = image.astype(mean.dtype) * (2.0 / (levels - 1)) - 1.0
    inverse = jnp.exp(-log_scale)
    half = inverse / (levels - 1)
    middle = (value - mean) * inverse
    return middle - half, middle + half, 2.0 * half


def _with_tails(inside: jax.Array, below: jax.Array, above: jax.Array, image: jax.Array, levels: int):
    return jnp.where(image == 0, below, jnp.where(image == levels - 1, above, inside))
