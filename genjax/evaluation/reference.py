"""Compute the statistics of the reference rows once, for all rows of a table.

The choice of data and of the number of rows makes a Fréchet distance fair:

- The *reference* is the training split (all of it up to 50,000 rows, or a fixed random part). It is the data
  that the models saw, it is the larger split, and its size is equal for every row of the table.
- A model is scored on `sets` independent sets of N samples each, every set against the same reference. The
  score is the mean over sets: an estimate of the metric's expectation at this N, biased alike for every row.
- The *floor* is real data under the same protocol: N rows of the eval split against the same reference. This
  metric at this N cannot distinguish a model at the floor from fresh real data; a model below it has copied
  its training set, or its samples vary less than the data.
- N therefore must not exceed the eval split. Its default is the eval split's size (at most 10,000): `digits`
  has 1,500 training and 297 eval rows, so N = 297 for all, the floor is one set, and its interval comes from
  subsampling halves; `mnist5k` likewise. If the eval split holds several sets of N, the floor is the
  mean over those disjoint sets, with a t interval like the models'.
- Scores are comparable at equal N and equal reference only: both are in the protocol. The literature's
  50,000 samples are `samples=50_000` (no floor exists then, unless 50,000 real rows were held out).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import logsumexp

from genjax import kinds
from genjax.errors import ConfigError
from genjax.evaluation import features as extractors
from genjax.evaluation import frechet
from genjax.evaluation.batches import Columns, mapped
from genjax.evaluation.config import Config
from genjax.evaluation.distances import nearest
from genjax.evaluation.features import Features
from genjax.evaluation.prdc import Manifold
from genjax.evaluation.scores import Scalar

Report = Callable[[str, int, int], None]
"""Called with (name of the stage, done, total)."""
ORDER_SEED = 0
"""Seed of the order whose first rows are the reference. It does not depend on evaluate.seed."""


def distinct(split: Any) -> int:
    """Return how many rows of a split have targets of their own; joined domains repeat the shorter one's."""
    return min(len(split), getattr(split, "distinct", len(split)))


class ReferenceStatistics:
    """Hold the reference rows and all that is computed from them; shared by the rows of a table.

    Every statistic is computed when it is first used, and once. Data without a raw array and without
    features (text) has rows and a protocol only.

    Args:
      dataset: with spec, train, eval and fingerprint (genjax.data.Dataset).
      features: an extractor; None measures raw values, and the protocol says so.
      config: the protocol.
      progress: called with (stage, done, total).

    Raises:
      ConfigError: too few rows for the k-th neighbour.
    """

    def __init__(
        self, dataset: Any, features: Features | None, config: Config, progress: Report | None = None
    ):
        self.dataset = dataset
        self.features = features
        self.config = config
        self.progress = progress or (lambda stage, done, total: None)
        self.target = kinds.main_target(dataset.spec)
        self.size = config.set_size(distinct(dataset.eval))
        self.count = config.reference_size(distinct(dataset.train))
        if self.embeds and min(self.size, self.count) <= config.k:
            raise ConfigError(
                f"sets of {self.size} rows and a reference of {self.count} are too few for k={config.k}",
                "more data, or a smaller evaluate.k",
            )

    @functools.cached_property
    def measurable(self) -> bool:
        """Return whether the main target has a raw array."""
        return extractors.measurable(self.dataset.spec)

    @property
    def embeds(self) -> bool:
        """Return whether rows can be embedded: by an extractor, or as raw arrays."""
        return self.features is not None or self.measurable

    @functools.cached_property
    def rows(self) -> Columns:
        """The reference rows: a fixed random part of the training split, in the order of the split."""
        order = np.random.default_rng(ORDER_SEED).permutation(distinct(self.dataset.train))
        return self.dataset.train.rows(np.sort(order[: self.count]))

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        """The features (N, D) of the reference rows."""
        return self.embed(self.rows, "features of the reference")

    @functools.cached_property
    def moments(self) -> frechet.Moments:
        """Mean and covariance of the embeddings."""
        return frechet.Moments.of(self.embeddings)

    @functools.cached_property
    def manifold(self) -> Manifold:
        """The k-nearest-neighbour balls of the embeddings."""
        step = functools.partial(self.progress, "neighbours in the reference")
        return Manifold.of(self.embeddings, self.config.k, progress=step)

    @functools.cached_property
    def raw(self) -> np.ndarray:
        """The raw array (N, D) of the reference rows."""
        return self.raw_of(self.rows)

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """Distances (N,) of each reference row to its nearest other one, in raw space."""
        step = functools.partial(self.progress, "neighbours in the training split")
        return nearest(self.raw, self.raw, 1, exclude_self=True, progress=step)[0][:, 0]

    @functools.cached_property
    def held_out_distances(self) -> np.ndarray:
        """Distances of N held-out real rows (as many as samples in a set) to the nearest reference row."""
        rows = np.random.default_rng(self.config.seed).permutation(distinct(self.dataset.eval))[: self.size]
        held_out = self.raw_of(self.dataset.eval.rows(np.sort(rows)))
        return nearest(held_out, self.raw, 1)[0][:, 0]

    def raw_of(self, columns: Columns) -> np.ndarray:
        """Return the raw array (N, D) float32 of the main target, as its kind defines it.

        Raises:
          ConfigError: the main target has no raw array.
        """
        found = None if self.target is None else extractors.raw(self.dataset, self.target, columns)
        if found is None:
            raise ConfigError(
                f"the data of {getattr(self.dataset, 'name', '')!r} has no raw values to measure",
                "leave the metrics of samples out of evaluate.metrics",
            )
        return found

    def embed(self, columns: Columns, stage: str = "features of the samples") -> np.ndarray:
        """Return the features (N, D) of rows."""
        if self.features is None:
            return self.raw_of(columns)
        return self._mapped(self.features.embed, columns, stage)

    def classify(self, columns: Columns, stage: str = "labels of the samples") -> np.ndarray:
        """Return the labels (N,) that the extractor's classifier predicts.

        Raises:
          ValueError: the extractor has no classifier.
        """
        if self.features is None or self.features.classify is None:
            raise ValueError("the feature extractor has no classifier")
        return self._mapped(self.features.classify, columns, stage)

    def entropies(self, columns: Columns, stage: str) -> np.ndarray:
        """Return the entropy (N,) in nats of the classes of each row, as the extractor's classifier has them.

        Raises:
          ValueError: the extractor has no classifier.
        """
        if self.features is None or self.features.logits is None:
            raise ValueError("the feature extractor has no classifier")
        logits = self._mapped(self.features.logits, columns, stage)
        log_p = logits - logsumexp(logits, axis=-1, keepdims=True)
        return -(np.exp(log_p) * log_p).sum(-1)

    def _mapped(self, function: Callable[[np.ndarray], Any], columns: Columns, stage: str) -> np.ndarray:
        assert self.features is not None
        name = self.features.element or self.target or ""
        step = functools.partial(self.progress, stage)
        return mapped(function, np.asarray(columns[name]), self.config.batch, step)

    def protocol(self, **more: Scalar) -> dict[str, Scalar]:
        """Return the protocol of a score of samples; `more` are the settings of the metric."""
        return {
            **data_protocol(self.dataset),
            "reference": "train",
            "reference_rows": self.count,
            "samples": self.size,
            "features": self.features.digest if self.features else "raw values",
            "seed": self.config.seed,
            **more,
        }


def data_protocol(dataset: Any) -> dict[str, Scalar]:
    """Return the part of every score's protocol that names the data: its name and its fingerprint."""
    return {"dataset": getattr(dataset, "name", ""), "fingerprint": dataset.fingerprint}
