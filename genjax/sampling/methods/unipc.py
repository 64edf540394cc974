"""Define UniPC (Zhao et al. 2023, arXiv:2302.04867): a predictor, corrected by the next step's evaluation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.sampling.methods.base import History, Method, Point, chosen, known_order, order_at

ALWAYS = 2**30
"""Every run ends with lower orders: it is shorter than this."""


class Memory(NamedTuple):
    """Hold what the last step left behind.

    Attributes:
      history: of the estimates of x_0, at their lambda.
      before: x at the start of the last step, corrected.
      point: (alpha, sigma, lambda) of that start.
      order: of the last prediction.
    """

    history: History
    before: jax.Array
    point: jax.Array
    order: jax.Array


def unipc(order: int = 2) -> Method:
    """Return UniPC with B(h) = exp(h) - 1 on estimates of x_0 (algorithms 5 to 8, "B_2").

    No evaluation of the network is made for the correction: it uses that of the step which follows.

    Raises:
      ConfigError: another order than 1, 2 or 3.
    """
    known_order(order, 3, "unipc")

    def start(x: jax.Array) -> Memory:
        return Memory(History.empty(x, order), x, jnp.zeros((3,), x.dtype), jnp.int32(1))

    def step(denoise, x, memory: Memory, now: Point, then: Point, noise):
        data = denoise(x, now.t)
        here = jnp.stack([now.alpha, now.sigma, now.half_log_snr])
        fixed = _corrected(memory, data, here, order)
        x = jnp.where(jnp.asarray(now.index) > 0, fixed, x)
        history = memory.history.pushed(data, now.half_log_snr)
        now_order = order_at(order, now, then, ALWAYS)
        there = jnp.stack([then.alpha, then.sigma, then.half_log_snr])
        found = _predicted(history, x, here, there, now_order, order)
        return found, Memory(history, x, here, now_order)

    return Method(start, step)


def _transferred(x: jax.Array, data: jax.Array, here: jax.Array, there: jax.Array) -> jax.Array:
    """Return the step of first order."""
    decay = -jnp.expm1(here[2] - there[2])
    return there[1] / here[1] * x + there[0] * decay * data


def _predicted(
    history: History, x: jax.Array, here: jax.Array, there: jax.Array, order: jax.Array, most: int
) -> jax.Array:
    base = _transferred(x, history.values[0], here, there)
    h = there[2] - here[2]
    candidates = [base]
    for p in range(2, most + 1):
        r, slopes = _slopes(history, h, p)
        system, right = _system(r, h, p)
        # The second order has one unknown, whose exact solution is replaced by 1/2 (sec. 3.4).
        rho = jnp.full((1,), 0.5, x.dtype) if p == 2 else jnp.linalg.solve(system[:-1, :-1], right[:-1])
        # -alpha B(h) sum: B(-h) = exp(-h) - 1 is negative.
        candidates.append(base - there[0] * jnp.expm1(-h) * jnp.tensordot(rho, slopes, 1))
    return chosen(order, candidates)


def _corrected(memory: Memory, data: jax.Array, there: jax.Array, most: int) -> jax.Array:
    here = memory.point
    first = memory.history.values[0]
    base = _transferred(memory.before, first, here, there)
    h = there[2] - here[2]
    change = data - first
    candidates = [base - there[0] * jnp.expm1(-h) * 0.5 * change]
    for p in range(2, most + 1):
        r, slopes = _slopes(memory.history, h, p)
        system, right = _system(r, h, p)
        rho = jnp.linalg.solve(system, right)
        total = jnp.tensordot(rho[:-1], slopes, 1) + rho[-1] * change
        candidates.append(base - there[0] * jnp.expm1(-h) * total)
    return chosen(memory.order, candidates)


def _slopes(history: History, h: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
    """Return the relative places r of earlier estimates, and their differences to the latest over r."""
    r = (history.places[1:order] - history.places[0]) / h
    # Places that are not there yet: any distinct numbers will do, the result is not chosen.
    known = jnp.isfinite(r)
    r = jnp.where(known, r, -1.0 - jnp.arange(order - 1, dtype=r.dtype))
    change = history.values[1:order] - history.values[:1]
    wide = r.reshape(-1, *(1,) * (change.ndim - 1))
    # From where there was no signal nothing is learned about the slope.
    known = known.reshape(wide.shape)
    return r, jnp.where(known, change / wide, 0.0)


def _system(r: jax.Array, h: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
    """Return the matrix and the right-hand side of eq. 11 and 12, in x_0 form."""
    places = jnp.concatenate([r, jnp.ones((1,), r.dtype)])
    hh = -h
    scale = jnp.expm1(hh)
    phi = scale / hh - 1.0
    factorial = 1.0
    rows = []
    right = []
    for i in range(1, order + 1):
        rows.append(places ** (i - 1))
        right.append(phi * factorial / scale)
        factorial *= i + 1
        phi = phi / hh - 1.0 / factorial
    return jnp.stack(rows), jnp.stack(right)
