"""Draw samples from a run, show them and save them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import data, files, kinds
from genjax.config import Seed, coerce
from genjax.core import Batch
from genjax.errors import ConfigError
from genjax.sampling.conditions import prompts
from genjax.sampling.sampler import Columns, Sampler
from genjax.workflows.assemble import Experiment, Trained

SHOWN = 100
"""Samples in the picture that a person opens."""


def sampler(
    experiment: Experiment, given: Mapping[str, Any] | None = None, batch: int | None = None
) -> Sampler:
    """Return the sampler of a run, with the protocol of its `evaluate` section.

    Args:
      given: options of the model's sampler over the config's own.
      batch: samples drawn at once; evaluate.batch if None.

    Raises:
      ConfigError: an unknown option, or a model that cannot be sampled from.
    """
    config = experiment.settings.evaluate
    return Sampler(
        experiment.model,
        experiment.dataset,
        batch=batch or config.batch,
        given={**experiment.settings.sample, **(given or {})},
        labels=config.labels is not False,
        seed=config.seed,
    )


def conditions(dataset: data.Dataset, num: int, start: int, given: Mapping[str, str | None]) -> Batch | None:
    """Return the conditions of `num` samples from command-line options; None if none was given.

    Args:
      start: the index of the first sample, whose protocol fills in the conditions that were not given.
      given: {option: value or None}; an option belongs to the conditions whose kind names it
        (`Kind.OPTION`), or to a running target, which is then continued.

    Raises:
      ConfigError: the data has no such condition, or the value does not fit it.
      DataError: a file cannot be read.
    """
    wanted = {option: value for option, value in given.items() if value is not None}
    if not wanted:
        return None
    columns: dict[str, Any] = {}
    for option, value in wanted.items():
        found = _elements(dataset, option)
        if not found:
            raise ConfigError(
                f"--{option}: {dataset.name} has no condition of this sort",
                f"its conditions are: {', '.join(dataset.spec.conditions) or 'none'}",
            )
        for name, kind in found:
            columns |= kind.parse(value, name, dataset.spec[name], num, dataset)
    if not set(dataset.spec.conditions) <= set(columns):
        # Held-out rows are read only if something is missing: the data may not be there.
        columns = {**prompts(dataset, np.arange(start, start + num)), **columns}
    return columns


def _elements(dataset: data.Dataset, option: str) -> list[tuple[str, kinds.Kind]]:
    """Return the conditions that an option gives, or else the running targets that it begins."""
    spec = dataset.spec
    given = [(name, kind) for name, kind in kinds.shown(spec, spec.conditions) if option == kind.OPTION]
    if given or spec.paired:
        return given
    targets = kinds.shown(spec, spec.targets)
    return [(name, kind) for name, kind in targets if option == kind.OPTION and kind.RUNNING]


def draw(
    trained: Trained,
    num: int,
    *,
    start: int | None = None,
    conditions: Batch | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    average: str | None = None,
) -> Columns:
    """Draw `num` samples of a run.

    With `start` and no conditions, sample i is the sample i that `evaluate` scores, given the same options.

    Args:
      start: the index of the first sample; 0 if None.
      conditions: of the samples; those of the evaluation protocol if None.
      options: of the model's sampler, over the config's own.
      seed: evaluate.seed if None.
      average: of the weights; the config's if None, "none" for the last weights.

    Raises:
      ConfigError: an unknown option or average, a seed out of range, or a model without a sampler.
    """
    experiment = trained.experiment
    if seed is not None:
        chosen = coerce(Seed, seed, "--seed")
        evaluate = dataclasses.replace(experiment.settings.evaluate, seed=chosen)
        settings = dataclasses.replace(experiment.settings, evaluate=evaluate)
        experiment = dataclasses.replace(experiment, settings=settings)
    # Aligned batches of the protocol's size reproduce scored samples; a batch of `num` costs less.
    protocol = experiment.settings.evaluate.batch
    found = sampler(experiment, options, protocol if start is not None else min(num, protocol))
    variables = trained.ready(check_average(trained, average))
    return found.draw(variables, num, start or 0, conditions)


def check_average(trained: Trained, average: str | None) -> str | None:
    """Return the name of an average of the weights, after checking that the run keeps it.

    Raises:
      ConfigError: the run does not keep it.
    """
    kept = trained.variables.ema
    if average in (None, "none") or average in kept:
        return average
    raise ConfigError(
        f"--average={average!r} is not kept by this run",
        f"give none, or one of: {', '.join(sorted(kept))}" if kept else "it keeps no average: give none",
    )


def names_of(given: str) -> list[str]:
    """Return a name for each image file that `--input` names: its path below the folder, without suffix.

    Raises:
      DataError: there is none.
    """
    root = Path(given)
    found = kinds.image_files(root, "--input")
    below = [path.relative_to(root) if root.is_dir() else Path(path.name) for path in found]
    names = ["_".join(path.with_suffix("").parts) for path in below]
    # Files that differ in their suffix alone keep it.
    return [n if names.count(n) == 1 else f"{n}_{p.suffix[1:]}" for n, p in zip(names, below, strict=True)]


def save_each(
    dataset: data.Dataset, rows: Mapping[str, np.ndarray], folder: Path, names: Sequence[str]
) -> list[Path]:
    """Write every sample to a file of its own; sample i is of names[i % N], and later rounds are numbered."""
    count = len(next(iter(rows.values())))
    N = len(names)
    own = [names[i % N] + (f"_{i // N}" if i >= N else "") for i in range(count)]
    return kinds.save_each(dataset.spec, rows, folder, own)


def save(dataset: data.Dataset, rows: Mapping[str, np.ndarray], path: Path, columns: int = 10) -> Path:
    """Write samples where a person can look at or listen to them; return the file to open."""
    return kinds.save_rows(
        dataset.spec,
        rows,
        path,
        tokenizer=dataset.tokenizer,
        classes=dataset.classes,
        columns=columns,
    )


def save_arrays(path: Path, rows: Mapping[str, np.ndarray]) -> Path:
    """Write named arrays as a compressed npz, atomically; return the path."""
    with files.replacing(path) as partial:
        np.savez_compressed(partial, **{k: np.asarray(v) for k, v in rows.items()})  # type: ignore[arg-type]
    return path
