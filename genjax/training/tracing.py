"""Write a jax.profiler trace of some steps of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from genjax.training import distributed


class Trace:
    """Trace the steps from `steps[0]` to `steps[1]` of a run, in its primary process.

    Args:
      steps: (first, last); None for no trace.
      directory: of the run; the trace is written to `profile` in it.
    """

    def __init__(self, steps: tuple[int, int] | None, directory: Path):
        self._first, self._last = steps or (-1, -1)
        self._folder = directory / "profile"
        self._running = False

    def at(self, step: int, state: Any) -> None:
        """Start or stop the trace if it is due after `step` steps, which have led to `state`."""
        if not self._running and self._first <= step < self._last and distributed.is_primary():
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif self._running and step >= self._last:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Stop the trace if it is running."""
        if self._running:
            jax.profiler.stop_trace()
        self._running = False
