"""Define what a finished training returns."""

from __future__ import annotations

from typing import Any, NamedTuple

from genjax.core import Variables


class Result(NamedTuple):
    """Hold a finished training.

    Attributes:
      step: steps taken in all.
      variables: with averages and frozen stages.
      metrics: of the last evaluation, {"phase/metric" or "phase/metric@average": value}.
      seconds: training time of all sessions, without compilation, evaluation, sampling and saving.
      skipped: indices of the batches that were left out.
    """

    step: int
    variables: Variables
    metrics: dict[str, Any]
    seconds: float
    skipped: tuple[int, ...]
