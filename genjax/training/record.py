"""Define what a checkpoint's record holds of a run beside its state, and continue from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from genjax.training.best import Best
from genjax.training.evaluations import Evaluations
from genjax.training.meter import Clock, Meter
from genjax.training.skips import Skips


@dataclasses.dataclass(frozen=True)
class Record:
    """Hold the parts of a run that a checkpoint saves as plain data.

    Attributes:
      identity: must be equal in a checkpoint to resume from it.
      dataset: digest of the data.
    """

    identity: dict[str, Any]
    dataset: str
    skips: Skips
    clock: Clock
    meter: Meter
    best: Best
    evaluations: Evaluations

    def saved(self, hooks: Sequence[str]) -> dict[str, Any]:
        """Return the record.

        Args:
          hooks: names of the hooks that are called after the save, for a restart before they end.
        """
        return {
            "identity": self.identity,
            "dataset": self.dataset,
            "skipped": self.skips.batches,
            "window": self.meter.window.saved(),
            "seconds": self.clock.seconds,
            "best_value": self.best.value,
            "hooks": list(hooks),
            **self.evaluations.saved(),
        }

    def restore(self, step: int, record: Mapping[str, Any]) -> None:
        """Continue at `step` from a record; from nothing if it is empty. Batches left out stay so."""
        self.skips.include(record.get("skipped", []))
        self.best.value = record.get("best_value")
        self.evaluations.restore(record)
        self.clock.at_least(record.get("seconds", 0.0))
        self.meter.restart(step, record.get("window"))
