"""Samples for evaluation: sample i is a function of (seed, i) and the weights, whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Batch, Model, Variables, row_keys
from genjax.errors import NonFiniteError
from genjax.evaluation import cost

STREAM = 0x5A4E
"""The stream of sampling keys: fold_in(fold_in(key(seed), STREAM), i)."""
Columns = dict[str, np.ndarray]


def prompt(dataset: Any, rows: np.ndarray, condition: bool) -> Batch:
    """The prompt of samples `rows` (B global indices): of pairs the held-out sources in order and round
    again, else balanced labels i mod classes, or nothing."""
    classes = dataset.spec.classes()
    if "source" in dataset.spec:
        held = dataset.eval.rows(rows % len(dataset.eval))
        return {k: jnp.asarray(held[k]) for k in ("source", "source_length")}
    return {"label": jnp.asarray(rows % classes, jnp.int32)} if condition and classes else {}


class Sampler:
    """A model's sampler compiled for one batch size.

    Args:
      variables: finished ones, at the average to be judged.
      knobs: of model.sample; static.
      dataset: whose spec and held-out rows give the prompts.
      condition: whether balanced labels are given as the prompt.

    Raises:
      ValueError: the model has no sampler.
    """

    def __init__(
        self,
        model: Model,
        variables: Variables,
        dataset: Any,
        *,
        batch: int,
        knobs: Mapping[str, Any],
        condition: bool,
        seed: int,
    ):
        self.variables, self.dataset, self.batch, self.condition = variables, dataset, batch, condition
        self.root = jax.random.key(seed)
        arguments = self._arguments(np.arange(batch))
        self.compiled = cost.compile_sampler(model, variables, *arguments, knobs)

    def _arguments(self, rows: np.ndarray) -> tuple[jax.Array, Batch]:
        return row_keys(self.root, STREAM, jnp.asarray(rows)), prompt(self.dataset, rows, self.condition)

    def draw(self, count: int, start: int = 0, progress: Callable[[int, int], None] | None = None) -> Columns:
        """Samples start .. start + count: {element: array}, with the labels that were asked for.

        Raises:
          NonFiniteError: a real-valued sample is NaN or infinite.
        """
        parts, ends = [], range(start, start + count, self.batch)
        for at in ends:
            keys, given = self._arguments(np.arange(at, at + self.batch))
            out = self.compiled(self.variables, keys, given)
            # The last batch is drawn whole and cut, so that one program serves all.
            kept = min(self.batch, start + count - at)
            named = {**given, **out}
            parts.append({k: np.asarray(v)[:kept] for k, v in named.items() if k in self.dataset.spec})
            if progress:
                progress(at + kept - start, count)
        columns = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        for name, x in columns.items():
            if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
                bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
                raise NonFiniteError(
                    f"sample {start + bad} has a {name} that is not finite",
                    "the weights have diverged: evaluate an earlier checkpoint",
                )
        return columns


def batches(x: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """(rows, how many count): every batch of `size` rows, the last filled up with its last row."""
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        count = len(rows)
        if count < size:
            rows = np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)])
        yield rows, count


def mapped(
    function: Callable[[np.ndarray], Any],
    x: np.ndarray,
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """`function` over rows of x in batches of one fixed size."""
    out, done = [], 0
    for rows, count in batches(x, size):
        out.append(np.asarray(function(rows))[:count])
        done += count
        if progress:
            progress(done, len(x))
    return np.concatenate(out)
