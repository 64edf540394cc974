"""Turn statistics of sets into scores with intervals: the part that the metrics of samples share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from genjax.evaluation import intervals
from genjax.evaluation.intervals import Interval
from genjax.evaluation.scores import Definition, Scalar, Score

if TYPE_CHECKING:
    from genjax.evaluation.context import Context

Statistic = Callable[[np.ndarray], Sequence[float]]
"""Rows of a set (n, D) -> one number for each score."""


def of_sets(
    context: Context,
    definitions: Mapping[str, Definition],
    statistic: Statistic,
    sets: Sequence[np.ndarray],
    stage: str,
    least: int = 2,
    /,
    **settings: Scalar,
) -> list[Score]:
    """Return the scores of statistics of independent sets.

    Args:
      definitions: {score name: definition}, in the order of the statistic's numbers.
      sets: arrays of N rows: a single one gets its interval from subsampling, several from their spread.
      stage: name for the progress.
      least: rows that the statistic needs. If a half of the single set has fewer, there is no interval.
      settings: of the metric; added to the protocol.
    """
    context.progress(stage, 0, len(sets))
    step = functools.partial(context.progress, stage)
    found = _intervals(statistic, sets, least, context.config.seed, step)
    protocol = context.reference.protocol(**settings)
    return [
        of_interval(context, definition, name, interval, protocol, sets=len(sets))
        for (name, definition), interval in zip(definitions.items(), found, strict=True)
    ]


def of_interval(
    context: Context,
    definition: Definition,
    name: str,
    interval: Interval,
    protocol: Mapping[str, Scalar],
    /,
    **detail: Scalar,
) -> Score:
    """Return a score with an interval; its method goes into the detail."""
    detail = {**context.detail, **detail, "interval": interval.method}
    return definition.score(name, interval.value, protocol, detail, interval.low, interval.high)


def exact(value: float) -> Interval:
    """Return a value whose sampling error is not estimated."""
    return Interval(value, None, None, "none")


def _intervals(
    statistic: Statistic,
    sets: Sequence[np.ndarray],
    least: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[Interval]:
    if len(sets) == 1:
        rows = len(sets[0])
        if rows // 2 < max(least, 2):
            reason = f"none: half of {rows} rows is fewer than the {max(least, 2)} that are needed"
            return [Interval(float(v), None, None, reason) for v in statistic(sets[0])]
        return intervals.subsampling(lambda index: statistic(sets[0][index]), rows, seed=seed)
    values = []
    for i, x in enumerate(sets):
        values.append(statistic(x))
        progress(i + 1, len(sets))
    return [intervals.of_sets(v) for v in zip(*values, strict=True)]
