"""Save the steps of a run that an error ends, if the error is not of the steps or of the disk."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from genjax.errors import CheckpointError, Interrupted, NonFiniteError, PeerError
from genjax.training import distributed

if TYPE_CHECKING:
    from genjax.training.run import Run

EVENTS = "events"
"""Stands among the hooks of a record: what was due after the checkpoint's step is done after a restart."""
_LOST = (CheckpointError, Interrupted, NonFiniteError, PeerError)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
log = logging.getLogger("genjax")


def save(run: Run, error: Exception) -> None:
    """Save the last step before an error is raised, and log whether it is saved.

    Does nothing if the step is saved already, if saving must fail too, or in a run of several processes,
    in which a save needs all of them.
    """
    disk = isinstance(error, OSError) and error.errno in _DISK
    if run.checkpoints is None or disk or isinstance(error, _LOST) or distributed.count() > 1:
        return
    if run.step == max(run.saved, 0):
        return
    try:
        run.save(hooks=[EVENTS] if run.handled != run.step else [])
        run.checkpoints.wait()
    except Exception as another:
        log.warning("step %d could not be saved: %s", run.step, another)
    else:
        log.warning("step %d was saved before this error:", run.step)
