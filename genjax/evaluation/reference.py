"""The ruler that every row of a table is held against: the same reference, the same N, the same features.

Which data, and how many rows, is what makes a Fréchet distance fair:

- The *reference* is the training split (all of it up to 50,000 rows, or a fixed random part). It is what the
  models were shown, it is the larger split, and its size is equal for every row of the table.
- A model is scored on `sets` independent sets of N samples each, every set against the same reference. The
  score
  is the mean over sets: an estimate of the metric's expectation at this N, biased alike for every row.
- The *floor* is real data under the same protocol: N rows of the eval split against the same reference. A
  model at the floor cannot be told from fresh real data by this metric at this N; one below it has copied
  its training set, or drawn less varied samples than the data.
- N therefore must not exceed the eval split. Its default is the eval split's size (at most 10,000): `digits`
  has 1,500 training and 297 eval rows, so N = 297 for all, the floor is one set, and its interval comes from
  subsampling halves; `mnist5k` likewise. Where the eval split holds several sets of N, the floor is the
  mean over those disjoint sets, with a t interval like the models'.
- Figures are comparable at equal N and equal reference only: both are in the protocol. The literature's
  50,000 samples are `samples=50_000` (no floor exists then, unless 50,000 real rows were held out).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genjax.errors import ConfigError
from genjax.evaluation import diversity, frechet, intervals, kid
from genjax.evaluation.config import Config, Features
from genjax.evaluation.distances import nearest
from genjax.evaluation.intervals import Interval
from genjax.evaluation.neighbours import memorisation
from genjax.evaluation.prdc import Manifold, prdc
from genjax.evaluation.samples import Columns, mapped
from genjax.evaluation.scores import Better, Criterion, Scalar, Score

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""

DIRECTIONS: dict[str, tuple[Better, Criterion]] = {
    "frechet": ("lower", "realism"),
    "kid": ("lower", "realism"),
    "precision": ("higher", "realism"),
    "recall": ("higher", "diversity"),
    "density": ("higher", "realism"),
    "coverage": ("higher", "diversity"),
    "pairwise_distance": ("none", "diversity"),
    "memorisation": ("none", "diversity"),
    "authenticity": ("higher", "diversity"),
    "nearest_train": ("none", "diversity"),
}
"""Which way each statistic of a set is better, and the criterion that it speaks to."""


class Ruler:
    """The reference and all that is computed from it once; made once and used for every row of a table.

    Args:
      dataset: spec, train, eval, fingerprint (genjax.data.Dataset, or anything like it).
      features: of images. None measures in the data's own units: points as they are, images as pixels in
        [0, 1]; the protocol says so.
      config: the protocol.
      progress: called with (stage, done, total).

    Raises:
      ConfigError: the data has neither images nor points, or too few rows for k.
    """

    def __init__(
        self, dataset: Any, features: Features | None, config: Config, progress: Report | None = None
    ):
        self.dataset, self.features, self.config = dataset, features, config
        self.progress = progress or (lambda stage, done, total: None)
        self.element = element_of(dataset.spec)
        if self.element is None:
            raise ConfigError(
                f"{getattr(dataset, 'name', 'this dataset')} has neither images nor points to measure",
                "leave the metrics of samples out of evaluate.metrics",
            )
        self.size = config.set_size(len(dataset.eval))
        rows = config.reference_size(len(dataset.train))
        if min(self.size, rows) <= config.k:
            raise ConfigError(
                f"sets of {self.size} rows and a reference of {rows} are too few for k={config.k}",
                "more data, or a smaller evaluate.k",
            )
        order = np.random.default_rng(0).permutation(len(dataset.train))[:rows]
        self.index = np.sort(order)
        self.train = dataset.train.rows(self.index)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        return self.embed(self.train, "features of the reference")

    @functools.cached_property
    def moments(self) -> frechet.Moments:
        return frechet.Moments.of(self.reference)

    @functools.cached_property
    def manifold(self) -> Manifold:
        step = functools.partial(self.progress, "neighbours in the reference")
        return Manifold.of(self.reference, self.config.k, progress=step)

    @functools.cached_property
    def train_raw(self) -> np.ndarray:
        return self.raw(self.train)

    @functools.cached_property
    def train_distances(self) -> np.ndarray:
        step = functools.partial(self.progress, "neighbours in the training split")
        return nearest(self.train_raw, self.train_raw, 1, exclude_self=True, progress=step)[0][:, 0]

    @functools.cached_property
    def held_out_distances(self) -> np.ndarray:
        """Of real rows, that no model has seen, to the training rows; N of them, as of the samples."""
        rows = np.random.default_rng(self.config.seed).permutation(len(self.dataset.eval))[: self.size]
        held_out = self.raw(self.dataset.eval.rows(np.sort(rows)))
        return nearest(held_out, self.train_raw, 1)[0][:, 0]

    def raw(self, columns: Columns) -> np.ndarray:
        """(N, D) float32: points as they are; pixels in [0, 1]."""
        assert self.element is not None
        x = np.asarray(columns[self.element])
        levels = self.dataset.spec[self.element].levels
        x = x.reshape(len(x), -1).astype(np.float32)
        return x / (levels - 1) if levels else x

    def embed(self, columns: Columns, stage: str = "features of the samples") -> np.ndarray:
        """The features (N, D) of images or points."""
        if self.features is None:
            return self.raw(columns)
        assert self.element is not None
        step = functools.partial(self.progress, stage)
        return mapped(self.features.embed, np.asarray(columns[self.element]), self.config.batch, step)

    def protocol(self, **more: Scalar) -> dict[str, Scalar]:
        """What every score of samples has in its protocol."""
        return {
            **data_protocol(self.dataset),
            "reference": "train",
            "reference_rows": len(self.index),
            "samples": self.size,
            "features": self.features.digest if self.features else "raw values",
            "seed": self.config.seed,
            **more,
        }

    def measure(self, sets: Sequence[Columns], detail: dict[str, Scalar], fresh: bool = True) -> list[Score]:
        """The scores of samples in sets of N rows each, in the config's order.

        Args:
          sets: independent sets; one set gets its interval from subsampling, several from their spread.
          detail: of the thing that is scored.
          fresh: False for held-out real rows, which are themselves the standard of memorisation.

        Raises:
          ConfigError: a set is not of N rows.
        """
        if any(len(s[self.element or ""]) != self.size for s in sets):
            raise ConfigError(f"every set must have {self.size} rows", "draw sets of evaluate.samples rows")
        scores: list[Score] = []
        wanted = [m for m in self.config.metrics if m in _STATISTICS]
        embedded = {"frechet", "kid", "prdc", "diversity"} & {*wanted}
        features = [self.embed(s) for s in sets] if embedded else []
        raws = [self.raw(s) for s in sets] if "neighbours" in wanted else []
        for metric in wanted:
            names, statistic, settings = _STATISTICS[metric](self, fresh)
            space = raws if metric == "neighbours" else features
            self.progress(metric, 0, len(space))
            found = _intervals(statistic, space, self.config.seed, functools.partial(self.progress, metric))
            for name, interval in zip(names, found, strict=True):
                scores.append(self._score(name, interval, settings, {**detail, "sets": len(sets)}))
        return scores

    def _score(self, name: str, i: Interval, settings: dict[str, Scalar], detail: dict[str, Scalar]) -> Score:
        better, criterion = DIRECTIONS[name]
        protocol = self.protocol(**settings)
        return Score(
            name, i.value, i.low, i.high, better, criterion, "", protocol, {**detail, "interval": i.method}
        )


Statistic = Callable[[np.ndarray], Sequence[float]]
"""Rows of a set (n, D) -> numbers."""
Recipe = tuple[tuple[str, ...], Statistic, dict[str, Scalar]]
"""(names of the numbers, the statistic, its settings for the protocol)."""


def _intervals(
    statistic: Statistic, sets: Sequence[np.ndarray], seed: int, progress: Callable[[int, int], None]
) -> list[Interval]:
    if len(sets) == 1:
        return intervals.subsampling(lambda rows: statistic(sets[0][rows]), len(sets[0]), seed=seed)
    values = []
    for i, x in enumerate(sets):
        values.append(statistic(x))
        progress(i + 1, len(sets))
    return [intervals.of_sets(v) for v in zip(*values, strict=True)]


def _frechet(ruler: Ruler, fresh: bool) -> Recipe:
    return (
        ("frechet",),
        lambda x: (frechet.distance(ruler.moments, frechet.Moments.of(x)),),
        {"metric": "squared Fréchet distance, unbiased covariances"},
    )


def _kid(ruler: Ruler, fresh: bool) -> Recipe:
    subset, seed = ruler.config.kid_subset, ruler.config.seed
    settings: dict[str, Scalar] = {"metric": "unbiased cubic MMD^2", "subset": subset}

    def statistic(x: np.ndarray) -> Sequence[float]:
        return (kid.kid(ruler.reference, x, subset=subset and min(subset, len(x)), seed=seed),)

    return ("kid",), statistic, settings


def _prdc(ruler: Ruler, fresh: bool) -> Recipe:
    names = ("precision", "recall", "density", "coverage")
    return names, lambda x: prdc(ruler.manifold, x), {"k": ruler.config.k}


def _diversity(ruler: Ruler, fresh: bool) -> Recipe:
    return ("pairwise_distance",), lambda x: (diversity.mean_pairwise_distance(x),), {}


def _neighbours(ruler: Ruler, fresh: bool) -> Recipe:
    settings: dict[str, Scalar] = {"features": "raw values", "held_out": "eval", "held_out_rows": ruler.size}

    def statistic(x: np.ndarray) -> Sequence[float]:
        m = memorisation(
            x,
            ruler.train_raw,
            train_distances=ruler.train_distances,
            held_out_distances=ruler.held_out_distances,
        )
        own = (m.authenticity, m.distance)
        return (m.nearer, *own) if fresh else own

    names = ("authenticity", "nearest_train")
    return (("memorisation", *names) if fresh else names), statistic, settings


_STATISTICS: dict[str, Callable[[Ruler, bool], Recipe]] = {
    "frechet": _frechet,
    "kid": _kid,
    "prdc": _prdc,
    "diversity": _diversity,
    "neighbours": _neighbours,
}


def element_of(spec: Any) -> str | None:
    """The element that samples are measured by: "image" or "point"; None for text."""
    return next((name for name in ("image", "point") if name in spec), None)


def data_protocol(dataset: Any) -> dict[str, Scalar]:
    """What every score has in its protocol: exactly which data."""
    return {"dataset": getattr(dataset, "name", ""), "fingerprint": dataset.fingerprint}
