"""Leave out what the threads of Orbax and TensorStore print about errors that `checkpoint` raises itself."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import traceback
from typing import Any

_MARKS = ("orbax", "tensorstore", "OCDBT")
"""Parts of a message or of a file's path that show where an error comes from."""


@functools.cache
def silence() -> None:
    """Install the filters, once in a process.

    - Orbax logs its warnings and tracebacks with absl.
    - asyncio logs the errors of the other arrays of a checkpoint, once one of them has failed.
    - TensorStore's threads print `Event loop is closed` if a read ends after the loop that waited for it.
    - Reads that Orbax has abandoned raise the same when they are collected, at any later time.

    Other messages and errors are not affected.
    """
    logging.getLogger("absl").addFilter(_not_orbax)
    logging.getLogger("asyncio").addFilter(_not_left_over)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _late(unraisable.exc_value) and not _abandoned(unraisable.object):
            before(unraisable)

    sys.unraisablehook = hook


def _not_orbax(record: logging.LogRecord) -> bool:
    foreign = "orbax" in record.pathname
    return not (foreign and (record.exc_info or record.levelno <= logging.WARNING))


def _not_left_over(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += "".join(traceback.format_exception(record.exc_info[1]))
    return not any(mark in text for mark in _MARKS)


def _late(error: BaseException | None) -> bool:
    """Return whether a thread reports a result to a loop that has been closed."""
    aside = threading.current_thread() is not threading.main_thread()
    return aside and isinstance(error, RuntimeError) and "Event loop is closed" in str(error)


def _abandoned(collected: Any) -> bool:
    """Return whether a coroutine of Orbax is collected that nothing waits for any more."""
    return inspect.iscoroutine(collected) and "orbax" in collected.cr_code.co_filename
