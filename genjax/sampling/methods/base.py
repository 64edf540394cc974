"""Define what a sampler of a diffusion is: a `Method`, whose step moves x from one time to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax.core import Tree
from genjax.errors import ConfigError

Estimate = Callable[[jax.Array, jax.Array], jax.Array]
"""(x_t, t) -> E[x_0 | x_t], with the scalar t of a Point."""


class Point(NamedTuple):
    """Hold a time of a path, its coefficients and its place among the times of a run; all scalars.

    Attributes:
      alpha, sigma: x_t = alpha x_0 + sigma noise.
      index: transitions that have been made.
      left: transitions that remain.
    """

    t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    index: jax.Array | int = 0
    left: jax.Array | int = 1

    @property
    def at(self) -> tuple[jax.Array, jax.Array]:
        return self.alpha, self.sigma

    @property
    def half_log_snr(self) -> jax.Array:
        """Return lambda = log(alpha / sigma): infinite without noise, -infinite without signal."""
        return jnp.log(self.alpha) - jnp.log(self.sigma)

    @property
    def ratio(self) -> jax.Array:
        """Return sigma / alpha, the noise level of x / alpha (EDM's sigma); infinite without signal."""
        return self.sigma / self.alpha


class Method(NamedTuple):
    """Define the steps of a sampler.

    Attributes:
      start: x at the first time -> memory (any tree; {} for single-step methods).
      step: (denoise, x, memory, now: Point, then: Point, noise) -> (x at the time `then`, memory).
        `denoise(x, t)` takes the scalar t of a Point; `noise()` draws a unit Gaussian like x from the rows'
        keys of this step, the same at every call.
      evaluations: of the network, (number of steps) -> NFE, without guidance.
    """

    start: Callable[[jax.Array], Tree]
    step: Callable[..., tuple[jax.Array, Tree]]
    evaluations: Callable[[int], int] = lambda steps: steps


def none(x: jax.Array) -> Tree:
    """Return the memory of a method that has none."""
    return {}


class History(NamedTuple):
    """Hold what the last steps of a multistep method have seen, the latest first.

    Attributes:
      values: (K, B, *shape), of the quantity that the method extrapolates.
      places: (K,), where: infinite in what has not been filled yet.
    """

    values: jax.Array
    places: jax.Array

    @classmethod
    def empty(cls, x: jax.Array, size: int) -> History:
        """Return a history of `size` values like x."""
        return cls(jnp.zeros((size, *x.shape), x.dtype), jnp.full((size,), jnp.inf, x.dtype))

    def pushed(self, value: jax.Array, place: jax.Array) -> History:
        """Return the history with a value before all others; the oldest one is dropped."""
        values = jnp.concatenate([value[None], self.values[:-1]])
        return History(values, jnp.concatenate([jnp.reshape(place, (1,)), self.places[:-1]]))


def chosen(order: Any, candidates: list[jax.Array]) -> jax.Array:
    """Return candidates[order - 1]; others may be NaN."""
    found = candidates[0]
    for n, candidate in enumerate(candidates[1:], 2):
        found = jnp.where(order == n, candidate, found)
    return found


def known_order(order: int, most: int, method: str) -> int:
    """Return the order of a method, which has orders up to `most`.

    Raises:
      ConfigError: another one.
    """
    if not 1 <= order <= most:
        raise ConfigError(f"order={order} of {method}", f"give 1 to {most}")
    return order


SHORT = 15
"""Runs of fewer steps end with lower orders."""


def order_at(most: int, now: Point, then: Point, short: int = SHORT) -> jax.Array:
    """Return the order of a multistep method's step: low at both ends of the run.

    At the start there is no history. No extrapolation reaches the time without noise, where lambda is
    infinite. At the end of short runs extrapolation is unstable (Lu et al. 2022, arXiv:2211.01095, app. F.1).

    Args:
      short: runs of fewer steps end with lower orders.
    """
    index = jnp.asarray(now.index)
    left = jnp.asarray(now.left)
    order = jnp.minimum(most, index + 1)
    order = jnp.where(index + left < short, jnp.minimum(order, left), order)
    return jnp.where(then.sigma > 0, order, 1)
