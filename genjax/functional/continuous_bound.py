"""Bound the negative log-likelihood of data along a path without steps, in nats per row.

Kingma et al. 2021 (arXiv:2107.00630), eq. 11 and 17: KL(q(x_1 | x_0) || N(0, 1)) - E log p(x_0 | x_t0) +
1/2 E of the integral of SNR |x_0 - E[x_0 | x_t]|^2 over gamma = -log SNR. An `estimate` is a function (t, n)
-> (x_t, E[x_0 | x_t]) of the time of each row, with the noise of stream n.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from genjax.core import Keys
from genjax.functional import likelihoods, noise
from genjax.functional.diffusion import spread
from genjax.functional.divergences import kl_normal
from genjax.functional.schedules import Path, log_snr, time_of


def prior_term(path: Path, x_0: Float[Array, "B *shape"], end: float = 1.0) -> Float[Array, " B"]:
    """Compute KL(q(x_1 | x_0) || N(0, sigma_1^2 + alpha_1^2))."""
    alpha, sigma = path(jnp.float32(end))
    of_row = jnp.broadcast_to(jnp.log(sigma), x_0.shape)
    all_rows = jnp.broadcast_to(0.5 * jnp.log(sigma**2 + alpha**2), x_0.shape)
    nats = kl_normal(alpha * x_0, of_row, jnp.zeros_like(x_0), all_rows)
    return nats.reshape(x_0.shape[0], -1).sum(1)


def decoder_term(
    path: Path,
    x: Shaped[Array, "B *shape"],
    x_0: Float[Array, "B *shape"],
    epsilon: Float[Array, "B *shape"],
    first: float,
    levels: int | None,
) -> Float[Array, " B"]:
    """Compute log p(x_0 | x_t0): normal around x_t0 / alpha with the deviation of its noise.

    Args:
      x: the data in their own form, and x_0 in the values of the network.
      epsilon: the noise of x_t0.
      first: t0.
    """
    alpha, sigma = path(jnp.float32(first))
    ratio = sigma / alpha
    mean = x_0 + ratio * epsilon
    log_std = jnp.broadcast_to(jnp.log(ratio), mean.shape)
    if levels:
        log_p = likelihoods.discretised_normal(mean, log_std, x, levels)
    else:
        log_p = likelihoods.normal(mean, log_std, x.astype(jnp.float32))
    return log_p.reshape(mean.shape[0], -1).sum(1)


def integral(
    path: Path,
    x_0: Float[Array, "B *shape"],
    estimate: Callable[..., Array],
    keys: Keys,
    ends: tuple[float, float],
    points: int,
) -> Float[Array, " B"]:
    """Estimate the integral over gamma at points that are even in it, from a random start for each row.

    Args:
      estimate: (t_B, n) -> E[x_0 | x_t], with the noise of stream n.
    """
    limits = path(jnp.asarray(ends, jnp.float32))
    low, high = -log_snr(*limits)
    start = noise.uniform(keys)

    def add(total: Array, k: Array) -> tuple[Array, None]:
        gamma = low + (high - low) * (k + start) / points
        t = time_of(path, -0.5 * gamma)
        error = jnp.square(x_0 - estimate(t, k + 2)).reshape(x_0.shape[0], -1).sum(1)
        return total + 0.5 * jnp.exp(-gamma) * error, None

    total, _ = jax.lax.scan(add, jnp.zeros(x_0.shape[:1]), jnp.arange(points))
    return total * (high - low) / points


def velocity(path: Path, t: Float[Array, " B"]) -> Float[Array, " B"]:
    """Return d gamma / dt at each time; differentiable in what the path depends on."""
    gamma = lambda t: -log_snr(*path(t))
    return jax.vmap(jax.grad(gamma))(t)


def error_term(
    path: Path, x_0: Float[Array, "B *shape"], estimate: Float[Array, "B *shape"], t: Float[Array, " B"]
) -> Float[Array, " B"]:
    """Return gamma'(t) SNR |x_0 - estimate|^2 / 2, whose mean over uniform times is the integral (eq. 17)."""
    alpha, sigma = path(t)
    noisy = spread(alpha / sigma, x_0) * (x_0 - estimate)
    squared = jnp.square(noisy).reshape(x_0.shape[0], -1).sum(1)
    return 0.5 * velocity(path, t) * squared
