"""Train any model on any dataset, and resume where the run directory left off."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax.core import Model, Variables
from genjax.errors import CheckpointError, ConfigError
from genjax.training import distributed, logbook, optimizers, run_lock, signals
from genjax.training.cache import cache_compilations
from genjax.training.config import Config
from genjax.training.hooks import Hooks
from genjax.training.run import Result, Run

log = logging.getLogger("genjax")
__all__ = ["Hooks", "Result", "train"]


def train(
    model: Model,
    dataset: Any,
    config: Config,
    optimizer: Mapping[str, optimizers.Config],
    *,
    directory: Path | str,
    batch: int,
    eval_batch: int | None = None,
    order: str = "shuffled",
    seed: int = 0,
    data_seed: int | None = None,
    identity: Mapping[str, Any] | None = None,
    frozen: Mapping[str, Variables] | None = None,
    initial: Variables | None = None,
    average: str | None = None,
    hooks: Hooks = Hooks(),
    begin: Callable[[], None] | None = None,
    devices: Sequence[Any] | None = None,
) -> Result:
    """Train to `config.steps`, resuming from the newest checkpoint in `directory` if there is one.

    Step n reads batch n of dataset.train.stream(order, batch, seed), skipped batches left out. All noise is
    a function of (seed, step, row). A run that was killed and resumed therefore equals an uninterrupted one
    bit for bit on the same devices. In a run of several processes, every process makes this call with the
    same arguments.

    Args:
      optimizer: {player: its optimizer}.
      directory: of the run; created if it is missing.
      batch: rows of the global batch.
      eval_batch: rows of an evaluation batch; `batch` if None.
      seed: of parameters and noise.
      data_seed: of the order of the data; `seed` if None.
      identity: plain data that must be equal in a checkpoint to resume from it: the model's name and
        config, the digests of frozen stages and of `initial`. The data's fingerprint, seed, batch and order
        are added.
      frozen: finished stages; never written.
      initial: variables of another run, of which step 1 starts from the leaves that `config.init_match`
        chooses; ignored if there is a checkpoint.
      average: the average of the variables that hooks receive; None for the parameters themselves.
      begin: called in the primary process when nothing can be refused any more: all names and shapes are
        checked and a checkpoint is restored. Nothing in the directory has changed before.
      devices: all of them if None.

    Raises:
      ConfigError: batch, mesh, sharding, schedule, average, initial variables or metric names do not fit.
      CheckpointError: a save failed, or the checkpoint belongs to another model or other data.
      NonFiniteError: a loss, gradient or parameter is NaN or infinite; none of it was saved.
      BusyError: another process is training in this directory.
      HookError: a hook failed; training has finished and is saved.
      Exception: of the data, or of the model in an evaluation; the steps taken are saved before.
      PeerError: another process of the run stopped responding.
      Interrupted: SIGTERM or SIGINT stopped the run after it saved, and work remains (see
        genjax.training.signals).
    """
    directory = _created(Path(directory))
    _check_average(config, average)
    logbook.require_wandb(config.wandb)
    if config.compilation_cache:
        cache_compilations()
    data = {"order": order, "batch": batch, "seed": seed if data_seed is None else data_seed}
    whole = complete_identity(
        identity or {},
        dataset,
        order=order,
        batch=batch,
        seed=seed,
        data_seed=data_seed,
        accumulate=config.accumulate,
    )
    with distributed.guarded(), run_lock.exclusive(directory), signals.entered() as stop:
        run = Run(model, dataset, config, directory, data, eval_batch or batch, whole)
        run.average = average
        run.initial = initial
        run.begin = begin
        if distributed.count() == 1:  # several processes agree on the step after which they leave
            stop.leave_when(run.nothing_lost, run.idle)
        with _closing(run):
            run.open(optimizer, hooks, seed, frozen, devices)
            return run(stop)


def complete_identity(
    identity: Mapping[str, Any],
    dataset: Any,
    *,
    order: str,
    batch: int,
    seed: int,
    data_seed: int | None,
    accumulate: int,
) -> dict[str, Any]:
    """Return the identity of a run's checkpoints: see `train`."""
    data = {"order": order, "batch": batch, "seed": seed if data_seed is None else data_seed}
    whole = {
        "data": {"fingerprint": dataset.fingerprint, **data},
        "seed": seed,
        "accumulate": accumulate,
        **identity,
    }
    return json.loads(json.dumps(whole, default=str))  # as it is read back from a checkpoint's record


@contextlib.contextmanager
def _closing(run: Run) -> Iterator[None]:
    """Close the run when the block ends, with one error whatever fails.

    Raises:
      CheckpointError: a checkpoint or a log cannot be written.
    """
    try:
        # A second guard, inside of `except`: a process that fails must not wait for ever in `close`.
        with distributed.guarded():
            yield
    except BaseException as error:
        try:
            run.close()
        except CheckpointError as another:
            if not isinstance(error, CheckpointError | OSError):
                log.warning("%s", another.message)
        if isinstance(error, OSError) and _of_directory(error, run.directory):
            raise CheckpointError(
                f"{run.directory} cannot be written: {error}", "free space there, and run again"
            ) from error
        raise
    run.close()


def _of_directory(error: OSError, directory: Path) -> bool:
    """Return whether an error is that of a file in the run directory, or of a disk without space."""
    if error.filename is None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(directory.absolute())


def _check_average(config: Config, average: str | None) -> None:
    """Raise ConfigError if the run keeps averages, and none of this name."""
    if config.averages and average is not None and average not in config.averages:
        raise ConfigError(
            f"the run keeps no average named {average!r}", f"train.averages has: {', '.join(config.averages)}"
        )


def _created(directory: Path) -> Path:
    """Create a run directory and return it. Raises CheckpointError if it cannot be created."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{directory} cannot be created: {error}", "choose another directory"
        ) from error
    return directory
