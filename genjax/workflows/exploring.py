"""Hold what the verbs of `genjax latent` share: the run, its codes, held-out rows, and where pictures go."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from genjax import data, kinds
from genjax.core import Batch, Spec, Variables
from genjax.errors import ConfigError
from genjax.evaluation.features import Features
from genjax.latents import Space, Synthesis
from genjax.workflows import evaluate, sample
from genjax.workflows.assemble import Datasets, Trained

BATCH = 250
"""Rows that are encoded at once."""


class Drawn(NamedTuple):
    """Hold the file that a verb wrote and what it found, in words."""

    path: Path
    found: str


@dataclasses.dataclass(frozen=True)
class Work:
    """Hold what a verb needs of a run.

    Attributes:
      trained: the run.
      variables: finished, with the average that was asked for.
      out: where the picture goes, without suffix.
    """

    trained: Trained
    variables: Variables
    out: Path

    @functools.cached_property
    def space(self) -> Space:
        """Return the codes of the run's codec.

        Raises:
          ConfigError: the model has none, or they are not real-valued.
        """
        return Space.of(self.trained.experiment.model, self.variables, self.spec)

    @functools.cached_property
    def synthesis(self) -> Synthesis:
        """Return the run's generator.

        Raises:
          ConfigError: the model has none.
        """
        return Synthesis.of(self.trained.experiment.model, self.variables, self.spec)

    @property
    def dataset(self) -> data.Dataset:
        return self.trained.experiment.dataset

    @property
    def spec(self) -> Spec:
        return self.dataset.spec

    def held_out(self, index: tuple[int, ...], option: str = "latent.rows") -> Batch:
        """Return rows of the held-out split.

        Args:
          option: that named them, for errors.

        Raises:
          ConfigError: it has fewer.
        """
        count = len(self.dataset.eval)
        if not index or max(index) >= count:
            raise ConfigError(
                f"{option}={index}: the held-out split has rows 0 to {count - 1}", "name some of them"
            )
        return self.dataset.eval.rows(np.asarray(index))

    def images(self, path: str, option: str) -> Batch:
        """Return images from files as rows; conditions are those of the first held-out rows.

        Args:
          option: that named the path, for errors.

        Raises:
          ConfigError: the target is no image.
          DataError: there is no image, or it cannot be read.
        """
        name = self.spec.targets[0]
        kind = kinds.of(self.spec[name])
        if kind is None or kind.OPTION != "input":
            raise ConfigError(f"{option}: the model draws no images", "leave it out to take held-out rows")
        count = len(kinds.image_files(Path(path), option))
        images = kind.parse(path, name, self.spec[name], count, self.dataset)
        index = np.arange(count) % len(self.dataset.eval)
        given = self.dataset.eval.rows(index)
        return {**{n: given[n] for n in self.spec.conditions}, **images}

    def labelled(self, rows: Batch, label: int | None, option: str) -> Batch:
        """Return the rows with this class; as they are if it is None.

        Raises:
          ConfigError: the data has no such label.
        """
        if label is None:
            return rows
        name = self.spec.label
        if name not in self.spec.conditions or label >= self.spec.classes():
            raise ConfigError(
                f"{option}={label}: the model has {self.spec.classes()} classes", "name another"
            )
        count = len(next(iter(rows.values())))
        return {**rows, name: np.full(count, label, np.int32)}

    def codes(self, split: Any, count: int, column: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes of the first rows of a split, and one of its columns."""
        count = min(count, len(split))
        codes = []
        values = []
        for start in range(0, count, BATCH):
            rows = split.rows(np.arange(start, start + BATCH).clip(max=count - 1))
            codes.append(np.asarray(self.space.encode(rows)))
            values.append(rows[column] if column else np.zeros(BATCH, np.int32))
        return np.concatenate(codes)[:count], np.concatenate(values)[:count]

    def save(self, rows: Batch, columns: int) -> Path:
        """Write rows as a picture with so many columns."""
        found = {name: np.asarray(x) for name, x in jax.device_get(rows).items()}
        return sample.save(self.dataset, found, self.out, columns=columns)

    def classifier(self) -> Features:
        """Return the dataset's own classifier, trained below runs/features if it is not there yet.

        Raises:
          ConfigError: the data has none.
        """
        name = self.trained.experiment.settings.evaluate.features
        found = evaluate.features(name, self.dataset, Path("runs") / "features", Datasets(), print)
        if found is None:
            raise ConfigError("the data has no feature extractor", "leave out what needs a classifier")
        return found
