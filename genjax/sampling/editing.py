"""Edit rows while a diffusion samples: known parts, measurements, any differentiable aim.

Each function makes a Method of a Method (sampling/methods). The network is one that was trained for nothing
but to denoise.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.functional.schedules import Path
from genjax.sampling.methods import Method, Point

Distance = Callable[[jax.Array], jax.Array]
"""Estimates of x_0 (B, *shape) -> a number for each row (B,), differentiable."""


def keeping(
    method: Method, known: Float[Array, "B *shape"], mask: Float[Array, "B *shape"], repeats: int = 1
) -> Method:
    """Return a method whose rows have known values where `mask` is 1: inpainting and outpainting.

    RePaint (Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1): after each step the known part is that of
    the data with the noise of its time. The step is repeated from noise that is added again, so that the
    rest can fit it. The known values are exact at the end.

    Args:
      repeats: of each step; 1 for none. Methods that remember earlier estimates do not profit.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        def once(carry, n):
            x, memory = carry
            part = lambda stream=0: noise(1 + 3 * n + stream)
            y, memory = method.step(denoise, x, memory, now, then, part)
            y = jnp.where(mask > 0, then.alpha * known + then.sigma * part(1), y)
            # q(x_now | x_then) has the mean (alpha / alpha') x.
            shrunk = now.alpha / then.alpha
            fresh = jnp.sqrt(jnp.maximum(now.sigma**2 - (shrunk * then.sigma) ** 2, 0.0))
            again = shrunk * y + fresh * part(2)
            return (jnp.where(n + 1 < repeats, again, y), memory), None

        (x, memory), _ = jax.lax.scan(once, (x, memory), jnp.arange(repeats))
        return x, memory

    return Method(method.start, step, lambda steps: repeats * method.evaluations(steps))


def measured(method: Method, distance: Distance, scale: float = 1.0) -> Method:
    """Return a method whose rows come to agree with a measurement: diffusion posterior sampling.

    Chung et al. 2023 (arXiv:2209.14687), algorithm 1: after each step x is moved against the gradient of the
    distance between the measurement and that of E[x_0 | x_t], with respect to x_t.

    Args:
      distance: of estimates of x_0 to the measurement, a norm (not squared).
      scale: zeta'.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        y, memory = method.step(denoise, x, memory, now, then, noise)
        slope = jax.grad(lambda x: distance(denoise(x, now.t)).sum())(x)
        return y - scale * slope, memory

    return Method(method.start, step, method.evaluations)


def steered(method: Method, path: Path, log_p: Distance, scale: float = 1.0) -> Method:
    """Return a method that samples from p(x) p(y | x)^scale: guidance by a classifier, or any such function.

    Dhariwal & Nichol 2021 (arXiv:2105.05233), sec. 4, with log p(y | E[x_0 | x_t]) in the place of a
    classifier of noisy rows: E[x_0 | x_t] moves by scale sigma^2 / alpha times its gradient by x_t (Tweedie).

    Args:
      log_p: of estimates of x_0.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        def moved(x: jax.Array, t: jax.Array) -> jax.Array:
            def value(x: jax.Array) -> tuple[jax.Array, jax.Array]:
                x_0 = denoise(x, t)
                return log_p(x_0).sum(), x_0

            slope, x_0 = jax.grad(value, has_aux=True)(x)
            alpha, sigma = path(t)
            # Without signal nothing is known of x_0, and the factor is infinite.
            factor = jnp.where(alpha > 0, sigma**2 / jnp.where(alpha > 0, alpha, 1.0), 0.0)
            return x_0 + scale * factor * slope

        return method.step(moved, x, memory, now, then, noise)

    return Method(method.start, step, method.evaluations)
