"""Define the errors that a user can fix, with the exit codes of the command line. Imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GenjaxError(Exception):
    """Report a problem that the user can fix. The command line prints it and exits with `exit_code`.

    Args:
      message: what is wrong; names the file, key or leaf.
      hint: what the user can do about it; printed on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = ""):
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  hint: {hint}" if hint else message)


class ConfigError(GenjaxError):
    """Report a config key or value that is unknown or not allowed."""


class DataError(GenjaxError):
    """Report a dataset that is unknown, missing, corrupt or of an unexpected form."""

    exit_code = 3


class CheckpointError(GenjaxError):
    """Report a checkpoint that cannot be written or read, or that belongs to another model."""

    exit_code = 4


class NonFiniteError(GenjaxError):
    """Report a loss, gradient, parameter or sample that is NaN or infinite."""

    exit_code = 5


class ProtocolError(GenjaxError):
    """Report scores that were measured under different protocols and cannot share a table column."""

    exit_code = 6


class BusyError(GenjaxError):
    """Report a run directory that another process is writing to."""

    exit_code = 7


class HookError(GenjaxError):
    """Report a hook (samples, pictures) that failed during a run whose training finished and was saved."""

    exit_code = 8


class PeerError(GenjaxError):
    """Report that another process of a distributed run stopped responding."""

    exit_code = 9


class Interrupted(GenjaxError):
    """Report that SIGTERM or SIGINT stopped the run after it saved; the same command resumes it."""

    exit_code = 75  # EX_TEMPFAIL: schedulers requeue on it.


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'width'?)` if a known name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
