"""Score a run by every criterion that its data and family allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax import data, evaluation, kinds
from genjax.config import build
from genjax.errors import ConfigError
from genjax.evaluation import distances
from genjax.evaluation import features as extractors
from genjax.sampling.sampler import Columns, options
from genjax.training import checkpoint, metricslog
from genjax.workflows import posthoc, sample
from genjax.workflows.assemble import Datasets, Trained
from genjax.workflows.train import reusable

SHARED = ("name", "size", "eval_fraction", "limit", "originals", "cache")
"""Fields of the data section that a feature extractor's classifier shares with the run it scores."""
KEPT = 1000
"""Scored samples that are kept in samples.npz."""
NEIGHBOURS = 50_000
"""Training rows among which the nearest neighbours of samples are shown."""


def config_of(trained: Trained, overrides: Mapping[str, Any] | None = None) -> evaluation.Config:
    """Return the `evaluate` section of a run with some fields changed.

    Raises:
      ConfigError: an unknown field.
    """
    raw = {**dataclasses.asdict(trained.experiment.settings.evaluate), **(overrides or {})}
    return build(evaluation.Config, raw, "evaluate")


def need_features(config: evaluation.Config) -> bool:
    """Return whether the metrics that a config names, or all of them, need a feature extractor."""
    return evaluation.metrics.need_features(config)


def features(
    name: str | None,
    dataset: data.Dataset,
    root: Path,
    datasets: Datasets | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> evaluation.Features | None:
    """Return the feature extractor of a dataset's main target.

    Args:
      name: of the extractor ("pixels", "classifier:digits/classifier", ...); the dataset's default if None.
      root: where classifiers and converted weights are kept, shared by everything that is scored there.

    Raises:
      ConfigError: an unknown extractor, or one that does not fit the data.
    """
    datasets = datasets or Datasets()

    def train(config: str, overrides: Mapping[str, Any] | None = None) -> extractors.Classifier:
        shared = {k: v for k, v in dataclasses.asdict(dataset.config).items() if k in SHARED}
        trained = reusable(config, {**shared, **(overrides or {})}, root, datasets, say)
        variables = trained.ready().replace(ema={})
        return extractors.Classifier(
            model=trained.experiment.model,
            variables=variables,
            name=trained.experiment.settings.name,
            step=trained.step,
            digest=checkpoint.digest(variables),
            dataset=trained.experiment.dataset,
        )

    element = kinds.main_target(dataset.spec)
    if element is None:
        return None
    request = extractors.Request(dataset=dataset, element=element, cache=root, train=train, say=say)
    return extractors.build(name, request)


def require_data(trained: Trained) -> None:
    """Read the data of a run, which scores compare it with.

    Raises:
      DataError: it is missing, or is not what the run was trained on.
    """
    dataset = trained.experiment.dataset
    for split in (dataset.train, dataset.eval):
        _ = split.source


def evaluate(
    trained: Trained,
    features: evaluation.Features | None,
    *,
    given: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    reference: evaluation.ReferenceStatistics | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[evaluation.Score]:
    """Score a run; write scores.json in place of an earlier one, and the samples that were scored.

    Args:
      given: options of the model's sampler over the config's own.
      overrides: fields of the evaluate section over the config's own.
      reference: of this dataset, features and evaluation, where several runs share it.

    Raises:
      DataError: the data is missing, or is not what the run was trained on.
      ConfigError: no metric applies.
    """
    require_data(trained)
    config = config_of(trained, overrides)
    trained = posthoc.with_average(trained, config.average)
    experiment = trained.experiment
    scores, samples = evaluation.evaluate(
        experiment.model,
        trained.variables,
        experiment.dataset,
        features,
        config,
        options(experiment.model, {**experiment.settings.sample, **(given or {})}),
        progress,
        reference=reference,
        train_seconds=training_seconds(trained.directory),
    )
    if not scores:
        raise ConfigError(
            f"none of the metrics applies to {trained.directory}: nothing was written",
            "name others in evaluate.metrics, or leave it out for all that apply",
        )
    if samples:
        keep_samples(trained, samples)
    evaluation.write(trained.directory / "scores.json", scores)
    return scores


def training_seconds(directory: Path) -> float | None:
    """Return the seconds that a run's training took, all sessions together; None if they are not logged."""
    lines, _ = metricslog.read(directory)
    known = [s for s in (line.get("seconds") for line in lines) if isinstance(s, int | float)]
    return max(known) if known else None


def keep_samples(trained: Trained, samples: Columns) -> None:
    """Write the samples that were scored, a picture of the first, and their nearest training rows."""
    folder = trained.directory / "samples"
    dataset = trained.experiment.dataset
    sample.save(dataset, {k: v[: sample.SHOWN] for k, v in samples.items()}, folder / "final")
    sample.save_arrays(folder / "samples.npz", {k: v[:KEPT] for k, v in samples.items()})
    pairs = _neighbours(dataset, samples)
    if pairs is not None:
        sample.save_arrays(folder / "neighbours.npz", pairs)


def _neighbours(dataset: data.Dataset, samples: Columns) -> Columns | None:
    """Return the first samples with their nearest training rows; None for data without a raw array."""
    name = kinds.main_target(dataset.spec)
    kind = kinds.of(dataset.spec[name]) if name else None
    if name is None or kind is None or name not in samples:
        return None
    shown = {k: v[: sample.SHOWN] for k, v in samples.items()}
    train = dataset.train.rows(np.arange(min(len(dataset.train), NEIGHBOURS)))
    raws = [kind.raw(kinds.Field(name, dataset.spec[name], rows)) for rows in (shown, train)]
    if raws[0] is None or raws[1] is None:
        return None
    distance, index = distances.nearest(raws[0], raws[1], 1)
    return {
        "element": np.asarray(name),
        "sample": shown[name],
        "neighbour": train[name][index[:, 0]],
        "distance": distance[:, 0],
    }
