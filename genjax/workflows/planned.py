"""Refuse what cannot be trained or sampled, before anything is trained or written."""

from __future__ import annotations

import logging
from pathlib import Path

import jax

from genjax import evaluation
from genjax.errors import ConfigError, nearest
from genjax.settings import Settings, complete, load
from genjax.settings import Stage as Named
from genjax.training import distributed, optimizers
from genjax.workflows import ignored, sample
from genjax.workflows.assemble import Datasets, Experiment, Stage, Trained, assemble, restore, shapes

log = logging.getLogger("genjax")


def experiment(settings: Settings, datasets: Datasets) -> Experiment:
    """Assemble an experiment on stages that may not be trained yet: they have shapes in place of variables.

    Raises:
      GenjaxError: it, or one of its stages, cannot be trained or sampled.
    """
    stages = {name: _stage(stage, datasets) for name, stage in settings.stages.items()}
    found = assemble(settings, datasets, stages)
    check(found)
    return found


def _stage(stage: Named, datasets: Datasets) -> Stage:
    if stage.run is not None:
        trained = restore(stage.run, datasets=datasets)
    else:
        assert stage.config is not None
        found = experiment(complete(load(stage.config, stage.overrides)), datasets)
        trained = Trained(found, shapes(found), 0, {}, Path())
    variables = jax.eval_shape(trained.experiment.model.finish, trained.variables)
    return Stage(trained, variables, "")


def check(experiment: Experiment) -> None:
    """Refuse names and options of the config that only this model and data show to be wrong.

    Raises:
      ConfigError: an unknown player, average, metric or feature extractor, a schedule that does not fit into
        the run, or options of the sampler that do not fit.
    """
    settings = experiment.settings
    players = experiment.model.players
    named = [(f"optimizers.{p}", p) for p in settings.optimizers]
    for name, average in settings.train.averages.items():
        named += [(f"train.averages.{name}.players", p) for p in average.players or ()]
    for where, player in named:
        if player not in players:
            raise ConfigError(
                f"{where}: this model has no player {player!r}{nearest(player, players)}",
                f"its players are {', '.join(players)}",
            )
    asked = settings.evaluate.average
    if not settings.train.averages and asked not in (None, type(settings.evaluate).average):
        raise ConfigError(
            f"evaluate.average={asked!r}: this run keeps no averages",
            f"add train.averages.{asked}, or leave it out",
        )
    configs = {player: settings.optimizer_of(player) for player in players}
    optimizers.of_players(experiment.model, configs, settings.train.steps, 0)
    evaluation.metrics.wanted(settings.evaluate)
    if settings.evaluate.features is not None:
        evaluation.features.load(settings.evaluate.features)
    if experiment.model.sample is not None:
        sample.sampler(experiment, batch=1).check(shapes(experiment))


def name_ignored(experiment: Experiment) -> None:
    """Log the conditions of the data that the model does not read, in one line."""
    variables = shapes(experiment).replace(frozen=experiment.frozen)
    settings = experiment.settings
    rows = max(settings.data.batch // settings.train.accumulate, 1)
    unread = ignored.conditions(experiment.model, variables, experiment.dataset.spec, rows)
    if unread and distributed.is_primary():
        log.info(
            "model %s does not read the condition %s of %s: its samples will not depend on it",
            experiment.settings.model_name,
            " or ".join(map(repr, unread)),
            experiment.dataset.name,
        )
