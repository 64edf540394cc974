"""Compute the likelihood of data under a diffusion: its two bounds, and the density of its ODE.

An `estimate` is (x_t, t_B) -> (E[x_0 | x_t], the share of a learned variance or None).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Keys
from genjax.functional import continuous_bound as continuous
from genjax.functional import diffusion as gaussian
from genjax.functional import flow_likelihood, noise
from genjax.functional.chain_bound import Chain
from genjax.functional.noise import fold
from genjax.functional.schedules import Path
from genjax.nn.denoisers.target import Target
from genjax.sampling.diffusion import threshold

Estimate = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]


def bound(
    data: Target,
    chain: Chain,
    batch: Batch,
    keys: Keys,
    estimate: Estimate,
    terms: int | None,
    clip: float | None,
) -> Float[Array, " B"]:
    """Return the variational bound along a chain, in nats per row."""
    x_0 = data.read(batch)

    def at(i: Int[Array, " B"], n: int | Array) -> tuple[Array, Any]:
        """Return the estimate at step i with the noise of stream n."""
        t = i / chain.steps
        x_t = gaussian.diffuse(x_0, noise.normal(fold(keys, n), data.shape), chain.path(t))
        found, share = estimate(x_t, t)
        return threshold(found, clip), share

    # The order of this sum is kept: float32 results are compared to the bit.
    total = chain.prior_term(x_0) - chain.decoder_term(batch[data.name], at, data.element.levels)
    if chain.steps > 1 and terms != 0:
        total = total + chain.middle_terms(x_0, at, fold(keys, 1), terms)
    return total


def continuous_bound(
    data: Target,
    path: Path,
    batch: Batch,
    keys: Keys,
    estimate: Estimate,
    ends: tuple[float, float],
    points: int,
    clip: float | None,
) -> Float[Array, " B"]:
    """Return the bound along the path without steps, in nats per row.

    Args:
      ends: the time at which the data is decoded (0 on a path that has noise there), and the last one.
      points: at which the integral is evaluated.
    """
    x_0 = data.read(batch)
    first, last = ends

    def at(t: Float[Array, " B"], n: int | Array) -> Array:
        x_t = gaussian.diffuse(x_0, noise.normal(fold(keys, n), data.shape), path(t))
        return threshold(estimate(x_t, t)[0], clip)

    epsilon = noise.normal(fold(keys, 0), data.shape)
    decoded = continuous.decoder_term(path, batch[data.name], x_0, epsilon, first, data.element.levels)
    inside = continuous.integral(path, x_0, at, fold(keys, 1), ends, points)
    return continuous.prior_term(path, x_0, last) - decoded + inside


def log_density(
    data: Target,
    path: Path,
    batch: Batch,
    keys: Keys,
    estimate: Estimate,
    timesteps: int,
    steps: int,
    probes: int | None,
) -> Float[Array, " B"]:
    """Return log p(x_0) under the ODE; of quantised images the log probability's lower bound."""
    x_0 = data.read(batch)
    width = 0.0
    if data.element.levels:
        # Level k fills the bin around 2 k / (levels - 1) - 1.
        scale = 2.0 / (data.element.levels - 1)
        x_0 = x_0 + scale * (jax.vmap(lambda k: jax.random.uniform(k, data.shape))(fold(keys, 9)) - 0.5)
        width = math.prod(data.shape) * math.log(scale)
    ends = (1.0 / timesteps, last_time(path, timesteps))
    denoise = lambda x, t: estimate(x, t)[0]
    return width + flow_likelihood.log_density(denoise, path, x_0, keys, ends, steps, probes)


def last_time(path: Path, steps: int) -> float:
    """Return the last time: 1, or just before it on a path that ends without signal.

    A learned path has signal at its end.
    """
    try:
        with jax.ensure_compile_time_eval():
            signal = bool(path(jnp.ones(()))[0] > 1e-4)
    except jax.errors.ConcretizationTypeError:
        return 1.0
    return 1.0 if signal else 1.0 - 1.0 / steps
