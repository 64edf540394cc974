"""The `evaluate` section of a config, and what features are. Imports no jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

METRICS = (
    "frechet",
    "kid",
    "prdc",
    "accuracy",
    "diversity",
    "neighbours",
    "modes",
    "likelihood",
    "cost",
    "speed",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """How a model is judged. The only home of these defaults.

    Attributes:
      metrics: which of METRICS; those that do not apply to the data or the model are left out.
      samples: N, the size of a set. None: as many as the eval split has, at most 10,000, so that the
        real-against-real floor can be drawn at the same N.
      sets: independent sets of N samples, for the intervals.
      batch: samples drawn at once, and rows embedded or scored at once. It changes no score.
      reference: rows of the training split that samples are compared with: the first of a fixed random
        order. None: all, at most 50,000.
      k: the neighbour whose distance is a ball's radius, in precision, recall, density and coverage.
      kid_subset: rows of a subset of the kernel distance; None compares all pairs (see evaluation/kid.py).
      condition: give balanced labels as the prompt. None: where the data has labelled images. Never for
        points, whose labels would tell the model which mode to draw.
      average: the named average of the weights that is judged; the last weights where it is not kept.
      speed_batches: batch sizes at which samples per second are measured.
      repeats: timed runs of each.
      seed: of the samples, of a bound's noise and of random subsets.
    """

    metrics: tuple[str, ...] = METRICS
    samples: int | None = None
    sets: int = 3
    batch: int = 64
    reference: int | None = None
    k: int = 5
    kid_subset: int | None = None
    condition: bool | None = None
    average: str | None = "eval"
    speed_batches: tuple[int, ...] = (1, 64)
    repeats: int = 3
    seed: int = 0

    def __post_init__(self):
        unknown = [m for m in self.metrics if m not in METRICS]
        if unknown:
            raise ValueError(f"unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}")
        for field, least in (("samples", 8), ("reference", 8), ("kid_subset", 2)):
            value = getattr(self, field)
            if value is not None and value < least:
                raise ValueError(f"{field} must be at least {least}, got {value}")
        for field in ("sets", "batch", "k", "repeats"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if any(b < 1 for b in self.speed_batches):
            raise ValueError(f"speed_batches must be at least 1, got {self.speed_batches}")

    def set_size(self, eval_rows: int) -> int:
        """N for an eval split of so many rows."""
        return self.samples or min(eval_rows, 10_000)

    def reference_size(self, train_rows: int) -> int:
        """Rows of the reference for a training split of so many rows."""
        return min(self.reference or 50_000, train_rows)


class Features(NamedTuple):
    """A feature extractor: whose it is, is the caller's affair.

    Attributes:
      embed: images as the data has them (B, H, W, C uint8) -> features (B, D) float. Called with batches of
        one fixed size, so a jitted function compiles once; each row's features must not depend on the others.
      classify: images -> predicted labels (B,) int; None where there is no classifier.
      digest: of the extractor's weights and preprocessing: equal exactly where its features are.
      description: for people.
    """

    embed: Callable[[np.ndarray], np.ndarray]
    classify: Callable[[np.ndarray], np.ndarray] | None
    digest: str
    description: str
