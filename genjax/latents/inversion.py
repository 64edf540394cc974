"""Project rows into the codes of a generator that has no encoder.

Karras et al. 2020 (arXiv:1912.04958, sec. 5 and app. D): a search from a code of the generator's own, here
from the nearest one of many draws. With one code for all layers the result lies among what the generator
draws; with a code for each layer it matches rows more closely (Abdal et al. 2019, arXiv:1904.03189, W+).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch, Keys
from genjax.latents.search import search
from genjax.latents.synthesis import Synthesis

Distance = Callable[[Batch], Float[Array, " B"]]
"""Targets that were decoded, in the units of the data and not rounded -> their distance to the rows."""


def squared_error(synthesis: Synthesis, rows: Batch) -> Distance:
    """Return the mean squared error to the targets of `rows`, in the units of the data."""
    wanted = {name: jnp.asarray(rows[name], jnp.float32) for name in synthesis.spec.targets}

    def distance(found: Batch) -> Float[Array, " B"]:
        each = [jnp.square(found[n] - x).reshape(x.shape[0], -1).mean(-1) for n, x in wanted.items()]
        return sum(each[1:], each[0])

    return distance


def nearest(
    synthesis: Synthesis, distance: Distance, keys: Keys, given: Batch
) -> tuple[Float[Array, "B L W"], Float[Array, " B"]]:
    """Return the nearest code to each row among many draws, and its distance; one compiled loop.

    Args:
      keys: (N, B), of N draws for each row.
      given: the labels of the rows.
    """

    def one(best: tuple[jax.Array, jax.Array], k: Keys) -> tuple[tuple[jax.Array, jax.Array], None]:
        codes, lowest = best
        drawn, _ = synthesis.generator.draw(synthesis.variables, k, given)
        found = distance(synthesis.expected(drawn, given))
        better = found < lowest
        return (jnp.where(better[:, None, None], drawn, codes), jnp.minimum(found, lowest)), None

    @jax.jit
    def run(keys: Keys) -> tuple[jax.Array, jax.Array]:
        shape = jax.eval_shape(lambda k: synthesis.generator.draw(synthesis.variables, k, given)[0], keys[0])
        start = (jnp.zeros(shape.shape), jnp.full((keys.shape[1],), jnp.inf))
        return jax.lax.scan(one, start, keys)[0]

    return run(keys)


def inverted(
    synthesis: Synthesis,
    distance: Distance,
    codes: Float[Array, "B L W"],
    given: Batch,
    *,
    per_layer: bool = True,
    steps: int = 300,
    learning_rate: float = 0.05,
) -> tuple[Float[Array, "B L W"], Float[Array, "S B"]]:
    """Return the codes that Adam finds from `codes`, and the distance at each step.

    Args:
      per_layer: a code for each layer (W+); else one for all of them, from the first layer's.
    """
    L = codes.shape[1]
    wide = lambda z: z if per_layer else jnp.broadcast_to(z, (z.shape[0], L, z.shape[2]))
    objective = lambda z: distance(synthesis.expected(wide(z), given))
    best, losses = search(objective, codes if per_layer else codes[:, :1], steps, learning_rate)
    return wide(best), losses
