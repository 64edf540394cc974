"""Errors that a user can mend, and the exit codes of the command line. Imports nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GenjaxError(Exception):
    """What went wrong, naming the thing, and how to mend it. The command line prints it and exits.

    Args:
      message: what is wrong, naming the file, key or leaf.
      mend: what the user can do about it; appended on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, mend: str = ""):
        self.message, self.mend = message, mend
        super().__init__(f"{message}\n  mend: {mend}" if mend else message)


class ConfigError(GenjaxError):
    """A key or value of a config that is unknown or does not fit."""


class DataError(GenjaxError):
    """A dataset that is unknown, missing, corrupt or of another form than expected."""

    exit_code = 3


class CheckpointError(GenjaxError):
    """A checkpoint that cannot be written or read, or belongs to another model."""

    exit_code = 4


class NonFiniteError(GenjaxError):
    """A loss, gradient or parameter that is NaN or infinite."""

    exit_code = 5


class ProtocolError(GenjaxError):
    """Scores whose protocols differ were about to be put side by side."""

    exit_code = 6


class BusyError(GenjaxError):
    """Another process is writing to the same run directory."""

    exit_code = 7


class Interrupted(GenjaxError):
    """The run was asked to stop (SIGTERM, SIGINT); it has saved and can be resumed."""

    exit_code = 75  # EX_TEMPFAIL: schedulers requeue on it.


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'width'?)` where a known name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
