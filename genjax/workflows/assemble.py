"""Assemble what a config describes: dataset, model and finished stages; restore what a run has learned."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from genjax import data, files
from genjax.core import Model, Variables
from genjax.errors import CheckpointError, ConfigError, DataError
from genjax.sampling import sampler
from genjax.settings import Settings, model_module
from genjax.training import checkpoint
from genjax.workflows import directory as directories

ORIGINS = "origins.json"
"""What a run was built on: the directories and digests of its stages and of its initial weights."""
BATCHING = ("batch", "eval_batch", "seed")
"""Fields of the data section that do not change which rows a dataset holds."""


class Datasets:
    """Load each dataset once for a command, however many runs read it."""

    def __init__(self):
        self._loaded: dict[str, data.Dataset] = {}

    def load(self, config: data.Config) -> data.Dataset:
        """Return the dataset of a config.

        Raises:
          DataError: it is unknown, missing or corrupt.
        """
        key = _key(config)
        if key not in self._loaded:
            self._loaded[key] = data.load(config)
        return dataclasses.replace(self._loaded[key], config=config)

    def of_run(self, directory: Path, config: data.Config) -> data.Dataset:
        """Return the dataset of a run from its own record; its rows are loaded when they are first read.

        They are those of `load`, if the command has loaded them already and they are the run's.

        Raises:
          DataError: the record is missing or damaged.
        """
        found = data.record.read(directory, config, self.load)
        loaded = self._loaded.get(_key(config))
        return found if loaded is None or loaded.digest != found.digest else self.load(config)


def _key(config: data.Config) -> str:
    """Return the fields of a config that say which rows a dataset holds, as text."""
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k not in BATCHING}
    return json.dumps(fields, sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Hold a finished earlier stage.

    Attributes:
      trained: the run, as it was restored.
      variables: at the average that the run samples with, finished.
      digest: of these variables.
    """

    trained: Trained
    variables: Variables
    digest: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Hold what a config resolves to."""

    settings: Settings
    dataset: data.Dataset
    model: Model
    stages: dict[str, Stage]

    @property
    def frozen(self) -> dict[str, Variables]:
        """The variables of the earlier stages."""
        return {name: stage.variables for name, stage in self.stages.items()}

    @property
    def average(self) -> str | None:
        """The average of the weights that pictures, samples, scores and later stages use; None for the last.

        Raises:
          ConfigError: the run keeps averages, and the named one is not among them.
        """
        name = self.settings.evaluate.average
        kept = self.settings.train.averages
        if name is None or not kept:
            return None
        if name not in kept:
            raise ConfigError(
                f"evaluate.average={name!r} is not among train.averages: {', '.join(sorted(kept))}",
                "name one of them, or None for the last weights",
            )
        return name


@dataclasses.dataclass(frozen=True)
class Trained:
    """Hold an experiment with what it has learned: variables as they were saved, not yet finished."""

    experiment: Experiment
    variables: Variables
    step: int
    record: dict[str, Any]
    directory: Path

    def ready(self, average: str | None = None) -> Variables:
        """Return the variables at an average (the config's if None), finished."""
        chosen = self.experiment.average if average is None else average
        return jax.jit(self.experiment.model.finish)(self.variables.at(chosen))


def assemble(
    settings: Settings,
    datasets: Datasets | None = None,
    stages: Mapping[str, Stage] | None = None,
    run: Path | None = None,
) -> Experiment:
    """Load the data and build the model; nothing is compiled.

    Args:
      run: the directory of a run, whose own record of the data is used; None to load the data.

    Raises:
      DataError: the dataset is unknown, missing or corrupt; or the record of the run is.
      ConfigError: the model cannot be built for this data or on these stages.
    """
    datasets = datasets or Datasets()
    dataset = datasets.load(settings.data) if run is None else datasets.of_run(run, settings.data)
    stages = dict(stages or {})
    for name, stage in stages.items():
        _check_stage(name, stage, dataset)
    models = {name: stage.trained.experiment.model for name, stage in stages.items()}
    try:
        model = model_module(settings.model_name).build(settings.model, dataset.spec, models)
    except ValueError as error:
        raise ConfigError(f"model {settings.model_name!r} on data {settings.data.name!r}: {error}") from error
    sampler.options(model, settings.sample)
    experiment = Experiment(settings, dataset, model, stages)
    assert experiment.average is None or experiment.average in settings.train.averages
    return experiment


def _check_stage(name: str, stage: Stage, dataset: data.Dataset) -> None:
    """Refuse a codec that was trained on rows of another form.

    Raises:
      ConfigError: names the first element that differs.
    """
    if stage.trained.experiment.model.codec is None:
        return
    theirs = stage.trained.experiment.dataset.spec
    for target in theirs.targets:
        here = dataset.spec.elements.get(target)
        there = theirs[target]
        if here is None or (here.shape, here.levels) != (there.shape, there.levels):
            raise ConfigError(
                f"stages.{name} was trained on {target} of shape {there.shape} with levels {there.levels}; "
                f"this data has {'no such element' if here is None else f'{here.shape} with {here.levels}'}",
                "give both runs the same data section, or name another stage",
            )


def identity(experiment: Experiment, origins: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint must share to be resumed: another model or other stages are another run."""
    s = experiment.settings
    out = {
        "model": {"name": s.model_name, **_chosen(s.model)},
        "optimizer": _chosen(s.optimizer),
        "optimizers": s.raw["optimizers"],
        "stages": {name: stage.digest for name, stage in experiment.stages.items()},
    }
    if s.train.freeze is not None:
        out["freeze"] = s.train.freeze
    if origins.get("initial"):
        out["initial"] = [origins["initial"]["digest"], s.train.init_match]
    return out


def _chosen(config: Any) -> dict[str, Any]:
    """Return the fields that are not at their defaults: a field added later then changes no identity."""
    values = dataclasses.asdict(config)
    return {f.name: values[f.name] for f in dataclasses.fields(config) if values[f.name] != f.default}


def restore(directory: str | Path, step: str | int = "latest", datasets: Datasets | None = None) -> Trained:
    """Restore a run: its config, record of the data, model, stages and variables. No data is read.

    Args:
      step: "latest", "best" or a number.

    Raises:
      DataError: the directory has no readable config.json.
      CheckpointError: it has no such checkpoint, or a stage is missing or has changed.
    """
    directory = Path(directory)
    datasets = datasets or Datasets()
    settings = directories.saved_settings(directory)
    origins = read_origins(directory)
    stages = {name: _restore_stage(directory, name, origins, datasets) for name in settings.stages}
    experiment = assemble(settings, datasets, stages, run=directory)
    found = checkpoint.load(directory, _step(step), like=shapes(experiment))
    _check_record(directory, experiment.dataset, found)
    variables = found.variables.replace(frozen=experiment.frozen)
    return Trained(experiment, variables, found.step, found.record, directory)


def _check_record(directory: Path, dataset: data.Dataset, found: checkpoint.Loaded) -> None:
    """Refuse a record of other data than that of the checkpoint.

    Raises:
      DataError: they differ.
    """
    trained = found.record.get("identity", {}).get("data", {}).get("fingerprint", dataset.fingerprint)
    if trained != dataset.fingerprint or found.record.get("dataset", dataset.digest) != dataset.digest:
        raise DataError(
            f"{directory / data.RECORD} is not the record of the data that checkpoint {found.step} was "
            "trained on",
            data.record.DAMAGED,
        )


def shapes(experiment: Experiment) -> Variables:
    """Return the variables of a model as shapes and dtypes; nothing is computed."""
    example = experiment.dataset.spec.example(1)
    return jax.eval_shape(
        lambda key, frozen: experiment.model.init(key, example, frozen), jax.random.key(0), experiment.frozen
    )


def finished(trained: Trained) -> Stage:
    """Return a run as a stage of another one: at the average it samples with, finished."""
    variables = trained.ready().replace(ema={})
    return Stage(trained, variables, checkpoint.digest(variables.replace(frozen={})))


def read_origins(directory: Path) -> dict[str, Any]:
    """Read origins.json; empty if the run was built on nothing.

    Raises:
      DataError: it is damaged.
    """
    path = directory / ORIGINS
    try:
        found = json.loads(path.read_text("utf-8"))
        for origin in (*found["stages"].values(), *filter(None, [found["initial"]])):
            _ = (Path(origin["directory"]), str(origin["digest"]))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} does not say what the run was built on: {error!r}", "restore it from a backup"
        ) from error
    return found


def write_origins(directory: Path, experiment: Experiment, initial: Mapping[str, Any] | None) -> None:
    """Write origins.json, with directories relative to the run so that both can be moved together."""
    stages = {
        name: {"directory": os.path.relpath(stage.trained.directory, directory), "digest": stage.digest}
        for name, stage in experiment.stages.items()
    }
    if stages or initial:
        files.write_json(directory / ORIGINS, {"stages": stages, "initial": dict(initial or {})})


def _restore_stage(directory: Path, name: str, origins: Mapping[str, Any], datasets: Datasets) -> Stage:
    recorded = (origins.get("stages") or {}).get(name)
    if recorded is None:
        raise CheckpointError(
            f"{directory / ORIGINS} does not say where stage {name!r} is", "train the run again"
        )
    stage = finished(restore(directory / recorded["directory"], datasets=datasets))
    if stage.digest != recorded["digest"]:
        raise CheckpointError(
            f"stage {name!r} in {stage.trained.directory} is not the one that {directory} was trained on",
            "restore its checkpoint, or train again in a new directory",
        )
    return stage


def _step(step: str | int) -> int | Any:
    if step in ("latest", None):
        return None
    if step == "best":
        return "best"
    try:
        return int(step)
    except ValueError:
        raise ConfigError(f"--step={step!r} is not latest, best or a number") from None
