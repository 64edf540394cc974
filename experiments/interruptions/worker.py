"""Run `genjax` as a command does, and write to a file when each part of a training begins and ends.

    python -m experiments.interruptions.worker MARKS train --config=...

The file has lines "TIME PART STEP". JAX is imported by the command and not before it.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from genjax import cli


def mark(file: int, part: str, step: int) -> None:
    """Append one line."""
    os.write(file, f"{time.monotonic()} {part} {step}\n".encode())


def marked(
    function: Callable[..., Any], file: int, part: str, step: Callable[..., int]
) -> Callable[..., Any]:
    """Return a method that writes a line when it begins and another when it ends."""

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        mark(file, part, step(self, *args))
        result = function(self, *args, **kwargs)
        mark(file, f"end-{part}", step(self, *args))
        return result

    return call


def watch(file: int) -> None:
    """Wait until the loop has been imported, and mark its parts."""
    while not hasattr(sys.modules.get("genjax.training.run"), "_every"):
        time.sleep(0.001)
    from genjax.training import run

    run.Run._advance = marked(run.Run._advance, file, "loop", lambda self, *_: self.step)
    run.Evaluations.measure = marked(
        run.Evaluations.measure, file, "evaluation", lambda self, state, step: step
    )
    run.Engine.step = marked(run.Engine.step, file, "step", lambda *_: 0)
    run.Caller.on_sample = marked(run.Caller.on_sample, file, "picture", lambda self, variables, n: n)


if __name__ == "__main__":
    marks = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    mark(marks, "start", 0)
    threading.Thread(target=watch, args=(marks,), daemon=True).start()
    cli.script()
