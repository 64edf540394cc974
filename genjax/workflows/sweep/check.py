"""Refuse what cannot be run before the first run of a sweep begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from genjax import evaluation, kinds
from genjax.data import Dataset
from genjax.errors import ConfigError, nearest
from genjax.evaluation.context import Context
from genjax.evaluation.metrics.likelihood import CODES
from genjax.evaluation.scores import LIKELIHOOD_KINDS
from genjax.settings import Settings
from genjax.training import optimizers
from genjax.workflows import planned
from genjax.workflows.assemble import Datasets, Experiment, assemble
from genjax.workflows.sweep import grid
from genjax.workflows.sweep.plan import Plan, Point

ANY_LIKELIHOOD = "likelihood"
"""The name of a score that stands for the model's likelihood, whatever its unit and kind."""


def plan(given: Plan, datasets: Datasets) -> Experiment | None:
    """Refuse settings that cannot be trained, or whose results cannot be compared.

    The config of every run is completed. Models are built and their samplers checked here if they have no
    stages; if they have, `experiments` does it once the stages exist.

    Returns:
      The experiment of the first setting; None if it has stages.

    Raises:
      ConfigError: a value or a score that is refused, or settings that read different data.
      DataError: the data is missing.
    """
    configs = [given.settings_of(point) for point in given.points][: len(given.settings)]
    read = [datasets.load(settings.data) for settings in configs]
    for values, settings, dataset in zip(given.settings, configs, read, strict=True):
        if dataset.fingerprint != read[0].fingerprint:
            raise ConfigError(
                f"{grid.label(given.settings[0])} and {grid.label(values)} read different data: their scores "
                "cannot be compared",
                "sweep the fields of the data in sweeps of their own",
            )
        _score_name(given, settings, dataset)
    if any(settings.stages for settings in configs):
        return None
    return experiments(given, lambda values, settings: assemble(settings, datasets))


def experiments(given: Plan, build: Callable[[dict[str, Any], Settings], Experiment]) -> Experiment:
    """Refuse settings whose model, sampler, optimizer or averages do not fit; return the first experiment.

    Settings that differ in their optimizer only share a model, which is built once.

    Args:
      build: (values, settings) -> the experiment.

    Raises:
      ConfigError: names the setting.
    """
    found: dict[str, Experiment] = {}
    for values in given.settings:
        settings = given.settings_of(Point(values, 0))
        key = json.dumps({**settings.raw, "optimizer": 0, "optimizers": 0}, sort_keys=True, default=str)
        try:
            if key not in found:
                found[key] = build(values, settings)
                planned.check(found[key])
            model = found[key].model
            players = {player: settings.optimizer_of(player) for player in model.players}
            optimizers.of_players(model, players, settings.train.steps, 0)
            if given.score is None:
                loss(found[key])
        except ConfigError as error:
            raise ConfigError(f"{grid.label(values)}: {error.message}", error.hint) from error
    return next(iter(found.values()))


def loss(found: Experiment) -> str:
    """Return the name of the final evaluation loss in metrics.jsonl, at the average that is evaluated.

    Raises:
      ConfigError: several players are trained, whose losses do not say how good the model is.
    """
    model = found.model
    if len(model.players) > 1:
        raise ConfigError(
            f"the losses of {' and '.join(model.players)} depend on each other and do not rank settings",
            "choose a score of `genjax evaluate`, e.g. --score=frechet",
        )
    name = f"{next(iter(model.phases))}/loss"
    return f"{name}@{found.average}" if found.average else name


def _score_name(given: Plan, settings: Settings, dataset: Dataset) -> None:
    """Refuse a name that no metric of the evaluation has. Raises ConfigError; names the nearest."""
    if given.score is None:
        return
    known = names(settings.evaluate, dataset)
    if metric_of(given.score, known) is None:
        raise ConfigError(
            f"--score={given.score}: no such score{nearest(given.score, known)}",
            f"leave it out for the final evaluation loss, or give one of: {', '.join(known)}",
        )


def names(config: evaluation.Config, dataset: Dataset) -> dict[str, str]:
    """Return {name of a score, as far as it is known before it is measured: its metric}."""
    found = {}
    for metric, module in evaluation.metrics.wanted(config).items():
        found |= dict.fromkeys(module.SCORES, metric)
    if ANY_LIKELIHOOD in found:
        target = kinds.main_target(dataset.spec)
        kind = kinds.of(dataset.spec[target]) if target else None
        units = [CODES.name, *([kind.UNIT.name] if kind and kind.UNIT else [])]
        found |= dict.fromkeys(units, found[ANY_LIKELIHOOD])
    return found


def metric_of(score: str, known: dict[str, str]) -> str | None:
    """Return the metric that measures a score; None if there is none.

    The name may go on with the kind of a likelihood (bits_per_dim/bound) or a batch (samples_per_second_64).
    """
    stem, _, kind = score.partition("/")
    if kind in LIKELIHOOD_KINDS and stem in known:
        return known[stem]
    stem, _, batch = score.rpartition("_")
    if batch.isdecimal() and stem in known:
        return known[stem]
    return known.get(score)


def applies(
    given: Plan,
    found: Experiment,
    features: evaluation.Features | None,
    reference: evaluation.ReferenceStatistics | None,
) -> None:
    """Refuse a score that cannot be measured for this model and data.

    Raises:
      ConfigError: gives the reason.
    """
    if given.score is None:
        return
    config = found.settings.evaluate
    metric = metric_of(given.score, names(config, found.dataset))
    assert metric is not None
    context = Context(found.dataset, features, config, model=found.model, reference=reference)
    reason = evaluation.metrics.load(metric).REQUIRES.unmet(context)
    if reason:
        raise ConfigError(
            f"--score={given.score} cannot be measured here: {reason}",
            "choose another score, or leave it out",
        )
