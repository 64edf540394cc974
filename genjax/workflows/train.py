"""Train a run, its stages first, or resume it where its directory left off."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax import data
from genjax.core import Variables
from genjax.errors import GenjaxError
from genjax.settings import Settings, complete, load
from genjax.settings import Stage as Named
from genjax.training import checkpoint, loop, run_lock, signals
from genjax.workflows import diagnosis, pictures, planned
from genjax.workflows import directory as directories
from genjax.workflows.assemble import (
    Datasets,
    Experiment,
    Stage,
    Trained,
    assemble,
    finished,
    identity,
    read_origins,
    restore,
    write_origins,
)

log = logging.getLogger("genjax")


def train(
    settings: Settings,
    directory: str | Path | None = None,
    devices: Sequence[Any] | None = None,
    datasets: Datasets | None = None,
) -> Path:
    """Train, or resume from the last checkpoint of the directory; return the directory.

    Args:
      directory: runs/<name> if None.
      devices: all of them if None.
      datasets: those that the command has loaded already.

    Raises:
      GenjaxError: any error that a user can fix; the last good checkpoint is kept.
    """
    where = directories.path_of(settings, directory)
    # Before stages are trained and data is read; and once more with the lock, which another may have held.
    directories.check_same_run(where, settings)
    datasets = datasets or Datasets()
    if not _resumes(where):
        _initial_run(settings)
        if settings.stages:  # before they are trained
            planned.experiment(settings, datasets)
    experiment = prepare(settings, where, datasets, devices)
    planned.check(experiment)
    planned.name_ignored(experiment)
    with directories.refusing(where) as begun, run_lock.exclusive(where):
        directories.check_same_run(where, settings)
        origins, initial = _initial(settings, where)

        def begin() -> None:
            begun.set()
            _write_record(where, experiment, origins)

        loop.train(
            experiment.model,
            experiment.dataset,
            settings.train,
            {player: settings.optimizer_of(player) for player in experiment.model.players},
            directory=where,
            batch=settings.data.batch,
            eval_batch=settings.data.eval_batch,
            order=settings.data.order,
            seed=settings.seed,
            data_seed=settings.data.seed,
            identity=identity(experiment, origins),
            frozen=experiment.frozen,
            initial=initial,
            average=experiment.average,
            hooks=loop.Hooks(diagnosis.hook_of(experiment), pictures.hook_of(experiment, where)),
            begin=begin,
            devices=devices,
        )
    return where


def _write_record(where: Path, experiment: Experiment, origins: Mapping[str, Any]) -> None:
    """Write what a run is made of: its config, the record of its data, and what it was built on."""
    directories.save_config(where, experiment.settings.raw)
    if not _resumes(where):
        experiment.dataset.save(where)
    write_origins(where, experiment, origins.get("initial"))


def prepare(
    settings: Settings,
    where: Path,
    datasets: Datasets | None = None,
    devices: Sequence[Any] | None = None,
) -> Experiment:
    """Train the stages of a run where they are not finished yet, and assemble the run on them.

    Raises:
      GenjaxError: as `train` and `assemble`.
    """
    datasets = datasets or Datasets()
    stages = {name: _stage(name, stage, where, datasets, devices) for name, stage in settings.stages.items()}
    # A resumed run keeps its own tokenizer, and refuses rows that are not those it has been trained on.
    return assemble(settings, datasets, stages, run=where if _resumes(where) else None)


def _resumes(where: Path) -> bool:
    """Return whether a directory holds a run with a checkpoint, and the record of its data."""
    return bool(checkpoint.saved_steps(where)) and data.record.exists(where)


def _stage(name: str, stage: Named, where: Path, datasets: Datasets, devices: Sequence[Any] | None) -> Stage:
    """Return a finished stage: the named run, or that of its config, which is trained if need be."""
    if stage.run is not None:
        return finished(restore(stage.run, datasets=datasets))
    assert stage.config is not None
    settings = complete(load(stage.config, stage.overrides))
    directory = where.parent / "stages" / f"{settings.name}-{_digest(settings, datasets)[:12]}"
    log.info("stage %s: %s", name, directory)
    train(settings, directory, devices, datasets)
    signals.proceed()
    return finished(restore(directory, datasets=datasets))


def _digest(settings: Settings, datasets: Datasets) -> str:
    """Return the sha256 (hex) of a config and the content of its data: the name of a reusable run."""
    raw = json.dumps([settings.raw, datasets.load(settings.data).fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(raw.encode()).hexdigest()


def _initial(settings: Settings, where: Path) -> tuple[dict[str, Any], Variables | None]:
    """Return (the recorded origins, the weights that a fresh run starts from or None)."""
    origins = read_origins(where)
    if settings.train.init_from is None:
        return origins, None
    if checkpoint.saved_steps(where) and origins.get("initial"):
        return origins, None  # resumed: the weights it started from are not needed again
    source = Path(settings.train.init_from)
    earlier = _initial_run(settings)
    assert earlier is not None
    average = earlier.evaluate.average
    variables = checkpoint.load(source).variables.at(average).replace(ema={})
    initial = {"directory": os.path.relpath(source, where), "digest": checkpoint.digest(variables)}
    return {**origins, "initial": initial}, variables


def _initial_run(settings: Settings) -> Settings | None:
    """Return the config of the run whose weights a new run starts from; None if it starts from none.

    Raises:
      GenjaxError: there is no such run.
    """
    if settings.train.init_from is None:
        return None
    try:
        return directories.saved_settings(Path(settings.train.init_from))
    except GenjaxError as error:
        raise type(error)(f"train.init_from: {error.message}", error.hint) from error


def reusable(
    config: str, rows: Mapping[str, Any], root: Path, datasets: Datasets, say: Any = log.info
) -> Trained:
    """Train the run of a config on some data, or reuse a finished one of the same content.

    Args:
      config: a config file or short name.
      rows: fields of the data section that say which rows there are.
      root: the run's directory is root/<name>-<digest>.

    Raises:
      GenjaxError: as `train`.
    """
    raw = load(config)
    settings = complete({**raw, "data": {**raw.get("data", {}), **rows}})
    directory = root / f"{settings.name}-{_digest(settings, datasets)[:12]}"
    if settings.train.steps not in checkpoint.saved_steps(directory):
        say(f"training {settings.name} in {directory}")
    train(settings, directory, datasets=datasets)
    signals.proceed()
    return restore(directory, datasets=datasets)


def training_cost(experiment: Experiment) -> dict[str, float]:
    """Return the seconds and FLOPs that the stages of a run took to train, those of their own included."""
    from genjax.evaluation import cost

    total = {"seconds": 0.0, "flops": 0.0}
    for stage in experiment.stages.values():
        run = stage.trained
        spec = run.experiment.dataset.spec
        batch = run.experiment.settings.data.batch
        total["seconds"] += float(run.record.get("seconds") or 0.0)
        total["flops"] += cost.run_flops(run.experiment.model, run.variables, spec, run.step, batch)
        earlier = training_cost(run.experiment)
        total = {name: total[name] + earlier[name] for name in total}
    return total


def limited(settings: Settings, **limits: Any) -> Settings:
    """Return the settings with other values of `train.steps`, `train.seconds` or `train.passes`."""
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **limits))
