"""Decide which checkpoint is the best by one metric of the evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from genjax.errors import ConfigError
from genjax.training import distributed
from genjax.training.config import Config


class Best:
    """Compare the evaluations of a run by `config.keep_best`.

    Attributes:
      value: the best so far; None before the first evaluation.
      from_hook: True if the model has no such metric, so that on_eval must return it.
    """

    def __init__(self, config: Config, known: Sequence[str], evaluates: bool):
        """Check the metric's name.

        Args:
          known: the metrics of the model's own evaluation.
          evaluates: there is an on_eval hook, which may return further metrics.

        Raises:
          ConfigError: no evaluation of this run can have the metric.
        """
        self._metric = config.keep_best
        self._sign = -1.0 if config.best == "max" else 1.0
        self.value: float | None = None
        self.from_hook = self._metric is not None and self._metric not in known
        if self.from_hook and not evaluates:
            raise self._unknown(known)

    def check(self, metrics: Mapping[str, Any]) -> None:
        """Raise ConfigError if an evaluation, on_eval's values included, lacks the metric."""
        if self._metric is not None and self._metric not in metrics:
            raise self._unknown(list(metrics))

    def improved(self, metrics: Mapping[str, Any]) -> bool:
        """Return True, in every process, if this evaluation is the best so far; then it becomes `value`."""
        if self._metric is None:
            return False
        # The primary process decides: a hook may have failed in one of them only.
        value = distributed.agree(_number(metrics.get(self._metric)))
        if value is None or not math.isfinite(value):
            return False
        if self.value is not None and self._sign * value >= self._sign * self.value:
            return False
        self.value = value
        return True

    def _unknown(self, known: Sequence[str]) -> ConfigError:
        return ConfigError(f"train.keep_best: no metric {self._metric!r}", f"there are: {', '.join(known)}")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
