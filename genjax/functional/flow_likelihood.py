"""Compute the density that a diffusion's probability-flow ODE gives to data, in nats per row.

Song et al. 2021 (arXiv:2011.13456), sec. 4.3 and app. D.2. In EDM's coordinates, y = x_t / alpha and u =
log(sigma / alpha), the ODE is dy/du = y - E[x_0 | x_t], and the density changes by its divergence:
log p(y_0) = log p(y_1) + integral of (D - trace of dE[x_0]/dy) du.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.functional import noise
from genjax.functional.schedules import Path, time_of

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""(x_t, t_B) -> E[x_0 | x_t]."""


class _State(NamedTuple):
    y: jax.Array
    change: jax.Array
    """Of the log density, from the data on."""


def log_density(
    denoise: Denoise,
    path: Path,
    x_0: Float[Array, "B *shape"],
    keys: Keys,
    ends: tuple[float, float],
    steps: int,
    probes: int | None = 1,
) -> Float[Array, " B"]:
    """Estimate log p(x_0) by the fourth-order Runge-Kutta rule in one compiled loop.

    The data are taken for rows at the first time, whose noise is small: the density is that of data with so
    much noise. At the last time rows are taken for normal with the deviation of the noise.

    Args:
      keys: one per row, for Hutchinson's estimate of the trace (Rademacher vectors, the same at all times:
        the estimate is unbiased).
      ends: the first and the last time.
      steps: of the rule; each evaluates the denoiser and a derivative in one direction four times.
      probes: vectors of the estimate, whose variance falls with their number; None for the exact trace, by
        one derivative for each dimension.
    """
    D = x_0[0].size
    alpha, sigma = path(jnp.asarray(ends, jnp.float32))
    first, last = jnp.log(sigma) - jnp.log(alpha)
    h = (last - first) / steps
    if probes is None:
        axes = jnp.eye(D).reshape(D, 1, *x_0.shape[1:])
        vectors = jnp.broadcast_to(axes, (D, *x_0.shape))
    else:
        draw = lambda k: jax.vmap(lambda key: jax.random.rademacher(key, x_0.shape[1:], jnp.float32))(k)
        vectors = jnp.stack([draw(noise.fold(keys, n)) for n in range(probes)])
    share = 1.0 if probes is None else 1.0 / probes

    def estimate(y: jax.Array, u: jax.Array) -> jax.Array:
        t = time_of(path, -u)
        return denoise(path(t)[0] * y, jnp.full((y.shape[0],), t))

    def slope(y: jax.Array, u: jax.Array) -> _State:
        one = lambda y: estimate(y, u)
        # v^T J v by reverse mode: some layers (nn/linear.py) define no other.
        x, pull = jax.vjp(one, y)
        product = lambda v: (v * pull(v)[0]).reshape(v.shape[0], -1).sum(1)
        return _State(y - x, D - share * jax.lax.map(product, vectors).sum(0))

    def step(state: _State, n: jax.Array) -> tuple[_State, None]:
        u = first + n * h
        moved = lambda k, part: state.y + part * h * k.y
        a = slope(state.y, u)
        b = slope(moved(a, 0.5), u + 0.5 * h)
        c = slope(moved(b, 0.5), u + 0.5 * h)
        d = slope(moved(c, 1.0), u + h)
        sixth = lambda p, q, r, s: h / 6.0 * (p + 2.0 * q + 2.0 * r + s)
        y = state.y + sixth(a.y, b.y, c.y, d.y)
        return _State(y, state.change + sixth(a.change, b.change, c.change, d.change)), None

    start = _State(x_0 / path(jnp.float32(ends[0]))[0], jnp.zeros(x_0.shape[:1]))
    end, _ = jax.lax.scan(step, start, jnp.arange(steps))
    squares = jnp.square(end.y).reshape(x_0.shape[0], -1).sum(1) * jnp.exp(-2.0 * last)
    prior = -0.5 * squares - D * (last + 0.5 * jnp.log(2.0 * jnp.pi))
    # Of y_0 = x_0 / alpha: the density of x_0 is larger by alpha^-D.
    return prior + end.change - D * jnp.log(path(jnp.float32(ends[0]))[0])
