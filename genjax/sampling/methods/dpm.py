"""Define DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095): E[x_0 | x_t] is extrapolated in lambda."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax.sampling.methods.base import History, Method, Point, chosen, known_order, order_at


def dpm_solver(order: int = 2) -> Method:
    """Return DPM-Solver++(2M) (algorithm 2), or (3M) with order 3.

    The authors' code has half of the quadratic term in (3M), which makes it a method of second order. Here
    the integral of the parabola through the last three estimates is exact.

    Raises:
      ConfigError: another order than 1, 2 or 3.
    """
    known_order(order, 3, "dpm_solver")

    def step(denoise, x, memory: History, now: Point, then: Point, noise):
        data = denoise(x, now.t)
        h = then.half_log_snr - now.half_log_snr
        decay = -jnp.expm1(-h)  # 1 - exp(-h)
        base = then.sigma / now.sigma * x + then.alpha * decay * data
        d1, d2, d2_slope = _differences(data, memory, now, h)
        second = base + then.alpha * decay * 0.5 * d1
        # The integrals of exp(-h (1 - u)) h u and u^2 over u in [0, 1]; differences of nearly equal numbers.
        linear = 1.0 - decay / h
        square = 1.0 - 2.0 * linear / h
        third = base + then.alpha * (linear * d2_slope + square * d2)
        found = chosen(order_at(order, now, then), [base, second, third][:order])
        return found, memory.pushed(data, now.half_log_snr)

    return Method(lambda x: History.empty(x, max(order - 1, 1)), step)


def _differences(
    data: jax.Array, memory: History, now: Point, h: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return D_1 of the second order, and D_2 and D_1 of the third."""
    r0 = (now.half_log_snr - memory.places[0]) / h
    near = (data - memory.values[0]) / r0
    if len(memory.values) < 2:
        return near, near, near
    r1 = (memory.places[0] - memory.places[1]) / h
    far = (memory.values[0] - memory.values[1]) / r1
    bend = (near - far) / (r0 + r1)
    return near, bend, near + r0 * bend


def dpm_solver_sde(order: int = 2) -> Method:
    """Return SDE-DPM-Solver++(2M): the same extrapolation with fresh noise in each step (app. D.4, eq. 49).

    Raises:
      ConfigError: another order than 1 or 2.
    """
    known_order(order, 2, "dpm_solver_sde")

    def step(denoise, x, memory: History, now: Point, then: Point, noise):
        data = denoise(x, now.t)
        h = then.half_log_snr - now.half_log_snr
        decay = -jnp.expm1(-2.0 * h)
        base = then.sigma / now.sigma * jnp.exp(-h) * x + then.alpha * decay * data
        base = base + then.sigma * jnp.sqrt(decay) * noise()
        second = base + then.alpha * decay * 0.5 * _differences(data, memory, now, h)[0]
        return chosen(order_at(order, now, then), [base, second][:order]), memory.pushed(
            data, now.half_log_snr
        )

    return Method(lambda x: History.empty(x, 1), step)
