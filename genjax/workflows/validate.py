"""Check every training of a comparison before the first one begins: configs, data, models, samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from genjax.data import Dataset
from genjax.errors import ConfigError, GenjaxError
from genjax.settings import Settings, complete, load
from genjax.settings import Stage as Named
from genjax.training import optimizers
from genjax.workflows.assemble import (
    Datasets,
    Experiment,
    Stage,
    Trained,
    assemble,
    restore,
    shapes,
)
from genjax.workflows.entries import Config, Training, trainings
from genjax.workflows.train import check


def all_trainings(config: Config) -> dict[str, list[Training]]:
    """Return {entry: its trainings}.

    Raises:
      GenjaxError: configs are missing or wrong; names all of these entries.
    """
    found: dict[str, list[Training]] = {}
    wrong: dict[str, GenjaxError] = {}
    for name in config.entries:
        try:
            found[name] = trainings(config, name)
        except GenjaxError as error:
            wrong[name] = error
    refuse(wrong)
    return found


def entries(found: Mapping[str, Sequence[Training]], datasets: Datasets) -> Dataset:
    """Return the dataset that all entries share, if each of them can be trained and sampled.

    Nothing is trained or compiled. The stages of an entry are checked in the same way.

    Raises:
      GenjaxError: some cannot; names all of them.
      ConfigError: two entries read different data.
    """
    read: dict[str, Dataset] = {}
    wrong: dict[str, GenjaxError] = {}
    for name, each in found.items():
        try:
            read[name] = planned(each[0].settings, datasets).dataset
        except GenjaxError as error:
            wrong[name] = error
    refuse(wrong)
    return _one_dataset(read)


def planned(settings: Settings, datasets: Datasets) -> Experiment:
    """Assemble an experiment on stages that may not be trained yet: they have shapes in place of variables.

    Raises:
      GenjaxError: it, or one of its stages, cannot be trained or sampled.
    """
    stages = {name: _stage(stage, datasets) for name, stage in settings.stages.items()}
    experiment = assemble(settings, datasets, stages)
    check(experiment)
    configs = {player: settings.optimizer_of(player) for player in experiment.model.players}
    optimizers.of_players(experiment.model, configs, settings.train.steps, 0)
    return experiment


def _stage(stage: Named, datasets: Datasets) -> Stage:
    if stage.run is not None:
        trained = restore(stage.run, datasets=datasets)
    else:
        assert stage.config is not None
        experiment = planned(complete(load(stage.config, stage.overrides)), datasets)
        trained = Trained(experiment, shapes(experiment), 0, {}, Path())
    variables = jax.eval_shape(trained.experiment.model.finish, trained.variables)
    return Stage(trained, variables, "")


def refuse(wrong: Mapping[str, GenjaxError], what: str = "cannot be trained") -> None:
    """Raise the first error again, with the names of all entries that have one; return if there is none.

    Raises:
      GenjaxError: of the type of the first error.
    """
    if not wrong:
        return
    first = next(iter(wrong.values()))
    said = "; ".join(f"{name}: {error.message}" for name, error in wrong.items())
    counted = f"{len(wrong)} {'entry' if len(wrong) == 1 else 'entries'} {what}"
    raise type(first)(f"{counted}: {said}", first.hint)


def _one_dataset(datasets: Mapping[str, Dataset]) -> Dataset:
    first, *others = datasets.items()
    for name, dataset in others:
        if dataset.fingerprint != first[1].fingerprint:
            raise ConfigError(
                f"entries {first[0]!r} and {name!r} read different data: {first[1].name} "
                f"({first[1].fingerprint[:12]}) and {dataset.name} ({dataset.fingerprint[:12]})",
                "give them the same data section, or compare them apart",
            )
    return first[1]
