"""Give a denoiser its own estimate of the step before: self-conditioning."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from genjax.core import Tree
from genjax.sampling.methods.base import Method, Point


def remembering(method: Method) -> Method:
    """Return the method for a denoiser (x, t, before) -> E[x_0 | x_t]; the estimate before is zero at first.

    Chen et al. 2023 (arXiv:2208.04202), sec. 2.2. What a step evaluates at its own x is remembered; if a
    method evaluates elsewhere only (added noise of `heun`), that costs one more evaluation.
    """

    def start(x: jax.Array) -> Tree:
        return method.start(x), jnp.zeros_like(x)

    def step(denoise, x, memory, now: Point, then: Point, noise):
        inner, before = memory
        first = denoise(x, now.t, before)
        # With a learned variance, the estimate is the first of two.
        seen = first[0] if isinstance(first, tuple) else first

        def estimate(y: jax.Array, t: jax.Array) -> Any:
            return first if y is x else denoise(y, t, seen)

        moved, inner = method.step(estimate, x, inner, now, then, noise)
        return moved, (inner, seen)

    return Method(start, step, method.evaluations)
