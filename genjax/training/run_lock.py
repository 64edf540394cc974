"""Lock a run directory, so that one run at a time writes to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from genjax.errors import BusyError
from genjax.training import distributed


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Lock the run directory. The operating system releases it however this process ends. May be nested.

    The primary process holds the lock for all processes of a run; if it cannot, all of them raise.

    Raises:
      BusyError: another process holds it; names its process id.
    """
    lock = filelock.FileLock(directory / ".lock", is_singleton=True)
    owner = directory / ".lock.pid"
    holder: str | None = None
    if distributed.is_primary():
        holder = _acquire(lock, owner)
    if holder := distributed.agree(holder):
        raise BusyError(
            f"{directory} is being written by process {holder}",
            "wait for it or stop it (it saves before it leaves), or choose another directory",
        )
    if not distributed.is_primary():
        yield
        return
    try:
        with contextlib.suppress(OSError):  # of a full disk: it only tells others who holds the lock
            owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        if lock.lock_counter == 1:  # the outermost
            owner.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: filelock.BaseFileLock, owner: Path) -> str | None:
    """Take the lock, or return the process id of its holder."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return owner.read_text().strip() if owner.exists() else "unknown"
    return None
