"""Combine the scores of several trainings of one model: intervals that cover the variation of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from genjax.evaluation import intervals
from genjax.evaluation.scores import TRAININGS, Score, table


def of_trainings(found: Sequence[Sequence[Score]]) -> list[Score]:
    """Return the mean of each score over trainings with different seeds, with Student's t interval.

    A score that is the same in all of them and has no interval (a number of parameters) keeps its value. A
    score that one of them does not have is left out.

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
    detail["interval"] = f"t over {len(scores)} trainings with different seeds"
    detail["values"] = ", ".join(f"{v:.6g}" for v in values)
    return dataclasses.replace(scores[0], value=mean, low=low, high=high, detail=detail)
