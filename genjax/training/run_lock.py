"""One writer to a run directory, and leaving it in good order when asked to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from genjax.errors import BusyError


@contextlib.contextmanager
def exclusive(directory: Path, hold: bool = True) -> Iterator[None]:
    """Holds the run directory; freed by the system however this process ends. May be nested.

    Args:
      hold: False in all but one process of a run of several.

    Raises:
      BusyError: another process holds it; names its process id.
    """
    if not hold:
        yield
        return
    lock = filelock.FileLock(directory / ".lock", is_singleton=True)
    owner = directory / ".lock.pid"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        pid = owner.read_text().strip() if owner.exists() else "unknown"
        raise BusyError(
            f"{directory} is being written by process {pid}",
            "wait for it or stop it (it saves before it leaves), or choose another directory",
        ) from error
    try:
        owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        if lock.lock_counter == 1:  # the outermost
            owner.unlink(missing_ok=True)
        lock.release()


class Stop:
    """Remembers SIGTERM and SIGINT while it is entered; the second of a kind acts as it always did.

    Attributes:
      signal: the name of the one that came, else None.
    """

    def __init__(self):
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, _: Any) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(number, self._before.pop(number))

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
