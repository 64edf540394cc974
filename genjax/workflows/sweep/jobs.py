"""Execute the runs of a sweep: in this process, or in several processes side by side (slurm.py: as jobs).

Each function calls `done(point, error)` as soon as a run has ended; the error is empty if it has not failed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from genjax.errors import Interrupted
from genjax.training.signals import Stop
from genjax.workflows.sweep import point as runs
from genjax.workflows.sweep.plan import Point

Done = Callable[[Point, str], None]
POLL = 0.2  # seconds
LOGS = "logs"
"""Folder of what the processes of a sweep print, a file for each run."""


def in_turn(runner: runs.Runner, points: Sequence[Point], begin: Callable[[Point], None], done: Done) -> None:
    """Execute runs one after another in this process.

    Raises:
      Interrupted: a signal has stopped a run, which has saved.
    """
    for point in points:
        begin(point)
        done(point, runner.run(point))


def side_by_side(where: Path, points: Sequence[Point], jobs: int, done: Done) -> None:
    """Execute runs in `jobs` processes at a time.

    Raises:
      Interrupted: a signal has stopped them; each has saved.
    """
    waiting = list(points)
    running: dict[Point | str, tuple[Point, subprocess.Popen[bytes]]] = {}
    with Stop() as stop, _ended(running):
        while waiting or running:
            while waiting and len(running) < jobs:
                point = waiting.pop(0)
                running[point.name] = point, _start(where, point)
            time.sleep(POLL)
            if stop.signal is not None:
                raise Interrupted(
                    f"stopped by {stop.signal}; the runs of {where} have saved",
                    "run the same command again to go on",
                )
            for name, (point, process) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    done(point, _outcome(where, point, process.returncode))


@contextlib.contextmanager
def _ended(running: Mapping[Any, tuple[Point, subprocess.Popen[bytes]]]) -> Iterator[None]:
    """Stop the processes that still run when the block ends, and wait for them: they save first."""
    try:
        yield
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()


def _start(where: Path, point: Point) -> subprocess.Popen[bytes]:
    """Start the process of a run. What it prints goes to a file."""
    arguments = [sys.executable, "-m", runs.__name__, str(where), point.name, str(os.getpid())]
    # Of the processes on one GPU, the first would otherwise take most of the memory.
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    with _log(where, point).open("ab") as file:
        return _spawn(arguments, env, file)


def _spawn(arguments: Sequence[str], env: Mapping[str, str], file: IO[bytes]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches the sweep alone, which then stops its runs.
    return subprocess.Popen(
        arguments, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
    )


def _log(where: Path, point: Point) -> Path:
    path = where / LOGS / f"{point.name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _outcome(where: Path, point: Point, code: int) -> str:
    """Return the error of a run whose process has ended; an empty string if it has not failed."""
    if code:
        message = f"its process ended with code {code} (see {_log(where, point)})"
        return runs.fail(where / point.name, message)
    return runs.failure(where, point)
