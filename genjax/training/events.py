"""Write TensorBoard's event files without TensorFlow.

The writer of tensorboardX with its own thread would print a traceback and then wait for ever if the disk is
full. Here events are written in the calling thread, which receives the error.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "tb"
FLUSH_EVERY = 30.0
"""Seconds after which what was written becomes visible to readers."""
_numbers = itertools.count()


class Events:
    """Write one event file of a run, which resumes after some step.

    Raises:
      OSError: in every method, the file cannot be written.
    """

    def __init__(self, directory: Path, step: int):
        """Open a new file. Events of steps after `step` in older files become void."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        self._event = Event
        self._scalar = scalar
        folder = directory / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # With its number, a file of the same second is not written over.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._file = RecordWriter(str(folder / name))
        self._write(0, file_version="brain.Event:2")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))
        self._flushed = time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write named numbers of a step."""
        for name, value in values.items():
            self._write(step, summary=self._scalar(name, value))
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self._file.flush()
            self._flushed = time.monotonic()

    def _write(self, step: int, **what: Any) -> None:
        event = self._event(step=step, wall_time=time.time(), **what)
        self._file.write(event.SerializeToString())

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._file.close()
