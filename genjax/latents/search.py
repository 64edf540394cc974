"""Search the latent space: codes whose decoding matches a row, or that a classifier takes for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from genjax.core import Batch
from genjax.latents.space import Space

Objective = Callable[[jax.Array], jax.Array]
"""Codes (B, *Z) -> a loss of each row (B,), differentiable."""


def search(
    objective: Objective, codes: Float[Array, "B *Z"], steps: int, learning_rate: float = 0.05
) -> tuple[Float[Array, "B *Z"], Float[Array, "S B"]]:
    """Minimise a loss of each row over its code by Adam; one compiled loop.

    Returns:
      The best code of each row that was visited, the first included, and the losses of each step.
    """
    optimizer = optax.adam(learning_rate)

    def total(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = objective(z)
        return each.sum(), each

    def step(state: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], jax.Array]:
        z, opt, best, lowest = state
        (_, each), slope = jax.value_and_grad(total, has_aux=True)(z)
        better = each < lowest
        best = jnp.where(better.reshape(-1, *(1,) * (z.ndim - 1)), z, best)
        change, opt = optimizer.update(slope, opt, z)
        return (optax.apply_updates(z, change), opt, best, jnp.minimum(each, lowest)), each

    @jax.jit
    def run(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = (z, optimizer.init(z), z, jnp.full(z.shape[:1], jnp.inf))
        (_, _, best, _), losses = jax.lax.scan(step, start, None, length=steps)
        return best, losses

    return run(codes)


def matching(space: Space, rows: Batch) -> Objective:
    """Return the mean squared error between the decoding of a code and its row, in units of the data.

    Raises:
      ConfigError: the codec's decoder has no gradient.
    """
    wanted = {name: jnp.asarray(rows[name], jnp.float32) for name in space.spec.targets}
    space.expected(space.encode(rows), rows)

    def loss(codes: jax.Array) -> jax.Array:
        found = space.expected(codes, rows)
        each = [jnp.square(found[n] - x).reshape(x.shape[0], -1).mean(-1) for n, x in wanted.items()]
        return sum(each[1:], each[0])

    return loss


def maximising(
    space: Space, given: Batch, logits: Callable[[Batch], Float[Array, "B K"]], target: Int[Array, " B"]
) -> Objective:
    """Return -log p(target | decoding of a code), as a classifier has it.

    Args:
      given: conditions of the rows.
      logits: of a batch with the targets of the data, which need not be whole numbers.
      target: the class of each row.
    """

    def loss(codes: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(logits(space.expected(codes, given)), -1)
        return -jnp.take_along_axis(log_p, target[:, None], 1)[:, 0]

    return loss
