"""Pack the metrics of several steps into one array, which reaches the host in one transfer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.core import Mean


def pack(metrics: dict[str, Mean], steps: int) -> tuple[Float[Array, "steps N"], dict[str, Any]]:
    """Return (the metrics in one array, the form of the metrics of a step, for `unpack`).

    Args:
      metrics: of one step; of several steps, stacked on the first axis, if `steps` is more than 1.
    """
    skip = 0 if steps == 1 else 1
    form = jax.tree.map(lambda x: jax.ShapeDtypeStruct(list(x.shape)[skip:], x.dtype), metrics)
    leaves = [jnp.asarray(x, jnp.float32).reshape(steps, -1) for x in jax.tree.leaves(metrics)]
    return jnp.concatenate(leaves, axis=1), form


def unpack(rows: np.ndarray, form: dict[str, Any]) -> list[dict[str, Mean]]:
    """Return the metrics of each step, on the host in float64."""
    treedef = jax.tree.structure(form)
    steps = []
    for row in np.asarray(rows, np.float64):
        leaves = []
        at = 0
        for x in jax.tree.leaves(form):
            leaves.append(row[at : at + x.size].reshape(x.shape))
            at += x.size
        steps.append(jax.tree.unflatten(treedef, leaves))
    return steps
