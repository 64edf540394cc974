"""Compute the losses of a run on held-out rows, at its parameters and at each of its averages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.errors import ConfigError
from genjax.training.engine import Engine
from genjax.training.logbook import values
from genjax.training.step import TrainState


class Evaluations:
    """Evaluate a run, and hold the last result.

    Attributes:
      losses: of the last evaluation, {"phase/metric" or "phase/metric@average": value}.
      step: at which they were computed; -1 before the first evaluation.
    """

    def __init__(self, engine: Engine, split: Any, rows: int):
        """Prepare evaluations; nothing is compiled.

        Args:
          split: the held-out part of the data.
          rows: of the global batch of an evaluation.

        Raises:
          ConfigError: such a batch cannot be divided over the devices.
        """
        if rows % engine.ways:
            raise ConfigError(
                f"an evaluation batch of {rows} rows cannot be divided over {engine.ways} devices",
                f"make data.eval_batch a multiple of {engine.ways}",
            )
        self._engine = engine
        self._split = split
        self._how = {"order": "once", "batch": rows, "seed": 0, "process": engine.share}
        self._averages = (None, *sorted(engine.config.averages))
        self.losses: dict[str, Any] = {}
        self.step = -1

    def names(self) -> list[str]:
        """Return the names that `losses` will have."""
        return [_at(name, a) for a in self._averages for name in self._engine.metric_names()]

    def measure(self, state: TrainState, step: int) -> None:
        """Compute the losses and metrics of a state."""
        out: dict[str, Any] = {}
        for average in self._averages:
            stream = self._split.stream(**self._how)
            variables = self._engine.variables(state, average)
            batches = itertools.islice(iter(stream), self._engine.config.eval_batches)
            means = self._engine.evaluate(variables, batches)
            out |= {_at(k, average): np.asarray(v).tolist() for k, v in values(means).items()}
        self.losses = out
        self.step = step

    def saved(self) -> dict[str, Any]:
        """Return the last result as plain data, for the record of a checkpoint."""
        return {"metrics": json.loads(json.dumps(self.losses, default=float)), "evaluated": self.step}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Continue from the record of a checkpoint; from nothing if it has no result."""
        self.losses = dict(record.get("metrics", {}))
        self.step = record.get("evaluated", -1)


def _at(metric: str, average: str | None) -> str:
    return f"{metric}@{average}" if average else metric
