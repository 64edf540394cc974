"""Average the likelihood over a split: nats per token, or bits per dimension.

    bits per dimension = total nats / (units * ln 2)

Totals and counts are kept per row (or per piece, see evaluation/whole.py) and summed in float64, so that
padding rows, ragged texts and the batch size change nothing. A bound (ELBO) or a density (of dequantised or
real-valued data) is another quantity than an exact probability: the kind is part of the score's name and
protocol.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Batch, Model, Tree, Variables, row_keys
from genjax.data.rows import Rows
from genjax.errors import NonFiniteError
from genjax.evaluation import whole
from genjax.evaluation.intervals import Interval, of_ratio

STREAM = 0x11CE
"""The stream of the keys with which a bound is drawn: fold_in(fold_in(key(seed), STREAM), row)."""
LN2 = math.log(2.0)


class Totals(NamedTuple):
    """Hold nats and units (R,) float64 of every independent part of a split.

    Attributes:
      part: "row", "lane" (rows of a text, read one after another) or "piece" (all rows of a piece).
      context: what the model had read before an item that counts, in words.
    """

    nats: np.ndarray
    units: np.ndarray
    part: str = "row"
    context: str = "its row alone"

    def per_unit(self) -> Interval:
        """Return nats per unit, with the interval from the spread of the rows."""
        return of_ratio(self.nats, self.units)

    def bits_per_unit(self) -> Interval:
        """Return bits per unit (per dimension of an image)."""
        i = self.per_unit()
        low, high = (None if x is None else x / LN2 for x in i[1:3])
        return Interval(i.value / LN2, low, high, i.method)

    def perplexity(self) -> Interval:
        """Return exp(nats per unit)."""
        i = self.per_unit()
        low, high = (None if x is None else math.exp(x) for x in i[1:3])
        return Interval(math.exp(i.value), low, high, i.method)


def likelihood(
    model: Model,
    variables: Variables,
    split: Any,
    *,
    batch: int = 128,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Totals:
    """Sum the nats that the model needs for the rows of a split, each row once.

    A model with a carry reads lanes of contiguous rows, its carry passed from batch to batch and zero at
    the start, every row still counted exactly once; any other reads rows in order. Where rows are parts of
    pieces (`Rows.bounds`), each piece is scored as a whole: see evaluation/whole.py.

    Args:
      variables: finished ones, at the average that is to be scored.
      split: a Split (len, stream).
      options: of model.likelihood, e.g. the samples of an importance-weighted bound.
      limit: rows at most (the first ones); None for all.

    Raises:
      ValueError: the model has no likelihood.
      NonFiniteError: a row that counts has a NaN or infinite total: probability zero, or a broken model.
    """
    if model.likelihood is None:
        raise ValueError("this model has no likelihood")
    rows = min(len(split), limit or len(split))
    batch = min(batch, rows)
    lanes = bool(jax.tree.leaves(_carry(model, split, batch)))
    score = functools.partial(_compiled(model.likelihood, tuple(sorted((options or {}).items()))), variables)
    root = jax.random.key(seed)
    source = whole.source_of(split)
    if source is not None:
        return _finite(_pieces(model, score, source.first(rows), batch, lanes, root, progress))
    carry = _carry(model, split, batch)
    nats = []
    units = []
    done = 0
    for b, index in _batches(split, batch, rows, lanes):
        total, count, carry = score(b, carry, root, index)
        nats.append(np.asarray(total, np.float64))
        units.append(np.asarray(count, np.float64))
        done += int(np.asarray(b["mask"]).sum())
        if progress:
            progress(done, rows)
    # Rows of a lane are one text and depend on each other: lanes are the independent units.
    if lanes:
        return _finite(Totals(np.sum(nats, axis=0), np.sum(units, axis=0), "lane", "all before it"))
    return _finite(Totals(np.concatenate(nats), np.concatenate(units)))


def _carry(model: Model, split: Any, batch: int) -> Tree:
    """Return the model's carry before the first of `batch` lanes of a split."""
    first = split.stream(order="once", batch=batch)[0]
    return model.carry({k: jnp.asarray(v) for k, v in first.items()})


def _pieces(
    model: Model,
    score: Callable[..., Any],
    source: Rows,
    batch: int,
    carried: bool,
    root: jax.Array,
    progress: Callable[[int, int], None] | None,
) -> Totals:
    """Return the totals of whole pieces.

    Args:
      score: of (batch, carry, root, indices).
      source: rows with `bounds`.
    """
    rows = whole.rows_of(source, carried)
    of = whole.pieces_of(rows)
    nats = np.zeros(of[-1] + 1)
    units = np.zeros(of[-1] + 1)
    carry: Tree | None = None
    done = 0
    for b, index in whole.batches(rows, batch, carried):
        carry = model.carry({k: jnp.asarray(v) for k, v in b.items()}) if carry is None else carry
        total, count, carry = score(b, carry, root, index)
        np.add.at(nats, of[index], np.asarray(total, np.float64))
        np.add.at(units, of[index], np.asarray(count, np.float64))
        done += int(b["mask"].sum())
        if progress:
            progress(done, len(rows))
    return Totals(nats, units, "piece", "all of the piece" if carried else "half a row of the piece or more")


def _finite(totals: Totals) -> Totals:
    """Return `totals`, or raise NonFiniteError for the first total that is NaN or infinite."""
    if not np.isfinite(totals.nats).all():
        bad = int(np.flatnonzero(~np.isfinite(totals.nats))[0])
        raise NonFiniteError(
            f"the likelihood of {totals.part} {bad} is {totals.nats[bad]}",
            "give every outcome a positive probability (smoothing), or train with a smaller learning rate",
        )
    return totals


def _batches(split: Any, batch: int, rows: int, lanes: bool) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield (batch, indices of its rows in the split) until each of the first `rows` rows was read once."""
    if not lanes:
        for i in range(-(-rows // batch)):
            b = dict(split.stream(order="once", batch=batch)[i])
            index = i * batch + np.arange(batch)
            b["mask"] = b["mask"] * (index < rows).astype(np.float32)
            yield b, index
        return
    # Lane b starts at row floor(b n / batch): rows past its end belong to the next lane.
    n = len(split)
    lane = np.arange(batch, dtype=np.int64)
    start = lane * n // batch
    end = (lane + 1) * n // batch
    stream = split.stream(order="lanes", batch=batch)
    for i in range(-(-rows // batch)):
        b = dict(stream[i])
        index = start + i
        b["mask"] = b["mask"] * (index < end).astype(np.float32)
        yield b, index


@functools.lru_cache(maxsize=32)
def _compiled(function: Callable[..., Any], options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return one program for a model's likelihood: later calls with the same shapes do not compile again."""

    @jax.jit
    def score(variables: Variables, batch: Batch, carry: Tree, root: jax.Array, index: jax.Array):
        keys = row_keys(root, STREAM, index)
        mean, carry = function(variables, {**batch, "carry": carry}, keys, **dict(options))
        live = batch["mask"] > 0
        total, count = (jnp.asarray(x, jnp.float32) for x in (mean.total, mean.count))
        # where: a padding row may be infinite or NaN, and must not count.
        return jnp.where(live, total, 0), jnp.where(live, count, 0), carry

    return score
