"""Define Adams methods: the noise is extrapolated by a polynomial through its last values, and integrated.

Along the probability-flow ODE x / alpha changes by epsilon d(sigma / alpha). LMS has polynomials in sigma /
alpha, DEIS in its logarithm (Zhang & Chen 2023, arXiv:2204.13902, "rho-AB"), and PNDM the weights of even
spacing (Liu et al. 2022, arXiv:2202.09778, eq. 11 and 12, whose transfer is DDIM's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax.functional.diffusion import to_noise
from genjax.sampling.methods.base import History, Method, Point, chosen, known_order, order_at

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
"""Of Gauss-Legendre quadrature: exact for polynomials up to degree 23."""
EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of the Adams-Bashforth methods of even steps, the latest value first."""
Space = Literal["linear", "log"]


def deis(order: int = 3) -> Method:
    """Return DEIS with polynomials of degree order - 1 in log(sigma / alpha).

    Raises:
      ConfigError: another order than 1, 2 or 3.
    """
    known_order(order, 3, "deis")
    return _adams(order, "log")


def lms(order: int = 4) -> Method:
    """Return the linear multistep method of k-diffusion, with polynomials in sigma / alpha.

    Raises:
      ConfigError: an order that is not in 1 .. 4.
    """
    known_order(order, 4, "lms")
    return _adams(order, "linear")


def pndm(order: int = 4) -> Method:
    """Return PNDM's linear multistep steps, without the Runge-Kutta steps at its start (as PLMS).

    Raises:
      ConfigError: an order that is not in 1 .. 4.
    """
    known_order(order, 4, "pndm")

    def step(denoise, x, memory: History, now: Point, then: Point, noise):
        data = denoise(x, now.t)
        epsilon = to_noise(data, x, now.at)
        values = jnp.concatenate([epsilon[None], memory.values])
        # The estimate of x_0 that goes with the extrapolated noise.
        mixed = [jnp.tensordot(jnp.asarray(w, x.dtype), values[: len(w)], 1) for w in EVEN[:order]]
        mean = chosen(jnp.minimum(order, jnp.asarray(now.index) + 1), mixed)
        # Without signal at `now` there is no history either, and x_0 is the network's own.
        signal = now.alpha > 0
        alpha = jnp.where(signal, now.alpha, 1.0)
        x_0 = jnp.where(signal, (x - now.sigma * mean) / alpha, data)
        return then.alpha * x_0 + then.sigma * mean, memory.pushed(epsilon, now.ratio)

    return Method(lambda x: History.empty(x, max(order - 1, 1)), step)


def _adams(order: int, space: Space) -> Method:
    def step(denoise, x, memory: History, now: Point, then: Point, noise):
        data = denoise(x, now.t)
        epsilon = to_noise(data, x, now.at)
        base = then.alpha * data + then.sigma * epsilon
        candidates = [base]
        for p in range(2, order + 1):
            weights = _weights(now.ratio, then.ratio, memory.places[: p - 1], space)
            # All weights sum to the change of sigma / alpha, which `base` has given to the latest value.
            change = memory.values[: p - 1] - epsilon[None]
            candidates.append(base + then.alpha * jnp.tensordot(weights, change, 1))
        # Polynomials in the logarithm cannot reach the time without noise.
        last = (
            order_at(order, now, then) if space == "log" else jnp.minimum(order, jnp.asarray(now.index) + 1)
        )
        # Infinite places, where there was no signal, have no polynomial.
        known = 1 + jnp.isfinite(memory.places).sum()
        return chosen(jnp.minimum(last, known), candidates), memory.pushed(epsilon, now.ratio)

    return Method(lambda x: History.empty(x, max(order - 1, 1)), step)


def _weights(now: jax.Array, then: jax.Array, earlier: jax.Array, space: Space) -> jax.Array:
    """Return for each earlier place the integral of its Lagrange polynomial over sigma / alpha."""
    warp: Callable = jnp.log if space == "log" else lambda u: u
    begin = warp(now)
    end = warp(then)
    half = 0.5 * (end - begin)
    nodes = begin + half * (1.0 + jnp.asarray(NODES, begin.dtype))
    # In the logarithm u, d(sigma / alpha) = exp(u) du.
    mass = half * jnp.asarray(WEIGHTS, begin.dtype) * (jnp.exp(nodes) if space == "log" else 1.0)
    places = jnp.concatenate([begin[None], warp(earlier)])
    weights = []
    for i in range(1, len(places)):
        basis = jnp.ones_like(nodes)
        for j in range(len(places)):
            if j != i:
                basis = basis * (nodes - places[j]) / (places[i] - places[j])
        weights.append((mass * basis).sum())
    return jnp.stack(weights)
