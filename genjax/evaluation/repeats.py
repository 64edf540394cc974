"""Combine the scores of several trainings of one model: intervals that cover the variation of training.

All trainings are measured with the same noise and the same held-out rows, so that the error of measurement
is shared: it neither shows in the spread of the trainings nor becomes smaller in their mean. The two are
independent, and half-widths are added in quadrature. Without the second, a model whose trainings are all
alike (a table of counts) would have an interval of width zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from genjax.evaluation import intervals
from genjax.evaluation.scores import TRAININGS, Score, table


def of_trainings(found: Sequence[Sequence[Score]]) -> list[Score]:
    """Return the mean of each score over trainings with different seeds, with a 95% interval.

    Its half-width has two parts: Student's t over the trainings, and the mean half-width of their own
    intervals. A score that is the same in all of them and has no interval (a number of parameters) keeps its
    value. A score that one of them does not have is left out.

    Args:
      found: the scores of each training, measured under one protocol.

    Raises:
      ProtocolError: they were measured differently.
    """
    columns = table({f"training {n + 1}": scores for n, scores in enumerate(found)})
    return [_mean(list(c.scores.values())) for c in columns if len(c.scores) == len(found)]


def _mean(scores: list[Score]) -> Score:
    values = [s.value for s in scores]
    shared = set.intersection(*({*s.detail.items()} for s in scores))
    detail = {k: v for k, v in scores[0].detail.items() if (k, v) in shared}
    detail[TRAININGS] = len(scores)
    if len({*values}) == 1 and all(s.low is None for s in scores):
        return dataclasses.replace(scores[0], detail=detail)
    mean, low, high, _ = intervals.of_sets(values)
    if low is not None and high is not None:
        low -= _added(mean - low, [s.value - s.low for s in scores if s.low is not None])
        high += _added(high - mean, [s.high - s.value for s in scores if s.high is not None])
    detail["interval"] = f"over {len(scores)} trainings with different seeds, and over samples or rows"
    detail["values"] = ", ".join(f"{v:.6g}" for v in values)
    return dataclasses.replace(scores[0], value=mean, low=low, high=high, detail=detail)


def _added(between: float, within: Sequence[float]) -> float:
    """Return by how much the half-width over trainings grows with those of the measurements."""
    return math.hypot(between, sum(within) / len(within)) - between if within else 0.0
