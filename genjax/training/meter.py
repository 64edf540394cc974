"""Read the metrics of dispatched steps, average them between log lines, and write the lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from genjax.training import step
from genjax.training.engine import Engine
from genjax.training.logbook import Logbook, Window

IN_FLIGHT = 8  # calls dispatched but not finished; more would only occupy memory


class NonFinite(Exception):
    """Report the step (counted from 0) at which a value is not finite, and name the value."""

    def __init__(self, at: int, what: str):
        super().__init__(f"{what} at step {at}")
        self.at = at
        self.what = what


class Clock:
    """Measure the seconds of training, without compilation, evaluation, sampling and saving."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, in all sessions of the run."""
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock until the next `start`."""
        self._before = self.seconds
        self._since = None

    def at_least(self, seconds: float) -> None:
        """Continue from the seconds of an earlier session, if they are more."""
        self._before = max(self._before, seconds)


class Meter:
    """Keep the metrics of one run from the call of a step to its log line.

    Args:
      rates: step of a log line -> {player: learning rate}.
      batch: rows of the global batch.
      every: steps from one log line to the next; 0 for none.

    Attributes:
      window: means since the last line.
      logbook: receives the lines; None in all but one process.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        rates: Callable[[int], Mapping[str, float]],
        batch: int,
        every: int,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._rates = rates
        self._batch = batch
        self._every = every
        self._pending: deque[tuple[int, Any, tuple[step.Phases, ...]]] = deque()
        self._logged = (0.0, 0)
        self.window = Window()
        self.logbook: Logbook | None = None

    def restart(self, at: int, window: Mapping[str, Any] | None) -> None:
        """Drop unread metrics, and continue from step `at` with the window that was saved there."""
        self._pending.clear()
        self.window = Window(window)
        self._logged = (self._clock.seconds, at)

    def add(self, end: int, packed: Any, phases: tuple[step.Phases, ...]) -> None:
        """Take the metrics of the call that ended at step `end`; wait if too many calls are in flight."""
        self._pending.append((end, packed, phases))

    def limit(self, calls: int = IN_FLIGHT) -> None:
        """Wait until fewer than `calls` calls (at least 1) are unfinished."""
        if len(self._pending) >= calls:
            jax.block_until_ready(self._pending[-calls][1])

    def read(self, upto: int) -> None:
        """Read the metrics of the calls that ended at or before step `upto`, and write the lines due.

        Raises:
          NonFinite: a loss or a gradient norm is NaN or infinite.
        """
        calls = []
        while self._pending and self._pending[0][0] <= upto:
            calls.append(self._pending.popleft())
        for (end, _, phases), packed in zip(calls, jax.device_get([c[1] for c in calls]), strict=True):
            for at, means in enumerate(self._engine.read(packed, phases), end - len(phases)):
                self._check(at, means)
                self.window.add(means)
                if self._every and (at + 1) % self._every == 0:
                    self._line(at + 1)

    def _check(self, at: int, means: Mapping[str, Any]) -> None:
        for what in ("loss", "grad_norm"):
            for phase in self._engine.model.phases:
                name = f"{phase}/{what}"
                if name in means and not np.all(np.isfinite(means[name].total)):
                    raise NonFinite(at, f"{name} is {means[name].total}")

    def _line(self, at: int) -> None:
        seconds = self._clock.seconds
        then, before = self._logged
        speed = (at - before) * self._batch / max(seconds - then, 1e-9)
        self._logged = (seconds, at)
        line = {"seconds": seconds, "examples_per_second": speed, **self.window.take()}
        line |= {f"learning_rate/{p}": rate for p, rate in self._rates(at).items()}
        if self.logbook is not None:
            self.logbook.write(at, "train", line)
