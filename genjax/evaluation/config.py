"""Define the `evaluate` section of a config. Imports no jax."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from genjax.config import Name, Range, Rows, Seed, check
from genjax.plugins import Entry

METRICS = "genjax.evaluation.metrics"
"""The package whose files are the built-in metrics."""
FEATURES = "genjax.evaluation.features"
"""The package whose files are the built-in feature extractors."""
Extractor = Annotated[str, Entry(FEATURES, "feature extractor", argument=True)]
"""The name of an extractor, which an argument may follow."""
Times = Annotated[int, Range(least=1, most=10_000)]


@dataclasses.dataclass(frozen=True)
class Config:
    """Set how a model is evaluated. The only place of these defaults.

    Attributes:
      metrics: names of files of genjax/evaluation/metrics, or dotted modules outside it. None: all built-in
        ones that apply to the data and the model. One that is named and does not apply is logged.
      features: extractor of the feature space, "NAME" or "NAME:ARGUMENT" (see evaluation/features). None:
        the dataset's own classifier if there is one, else the raw values.
      samples: N, the size of a set. None: as many as the eval split has, at most 10,000, so that the
        scores of real data (the floor) can be measured at the same N.
      sets: independent sets of N samples, for the intervals.
      batch: samples drawn at once, and rows embedded or scored at once. It changes no score.
      reference: rows of the training split that samples are compared with: the first of a fixed random
        order. None: all, at most 50,000.
      k: the neighbour whose distance is a ball's radius, in precision, recall, density and coverage.
      kid_subset: rows of a subset of the kernel distance; None compares all pairs (see metrics/kid.py).
      labels: whether class labels are given to the sampler; None means true. False leaves out conditions
        that a kind can define by itself; conditions from held-out rows are always given.
      importance_samples: draws in the importance-weighted bound of a latent-variable model; None for the
        plain bound (ELBO).
      likelihood: options of the model's likelihood, e.g. {"method": "ode"} of a diffusion.
      average: the named average of the weights that is evaluated. None: the last weights, which are also
        used if a run keeps no averages.
      speed_batches: batch sizes at which samples per second are measured.
      repeats: timed runs of each.
      seed: of the samples, of a bound's noise and of random subsets.

    Raises:
      ValueError: a value out of its range.
    """

    metrics: tuple[Annotated[str, Entry(METRICS, "metric")], ...] | None = None
    features: Extractor | None = None
    samples: Annotated[int, Range(least=8, most=2**24)] | None = None
    sets: Times = 3
    batch: Rows = 64
    reference: Annotated[int, Range(least=8, most=2**24)] | None = None
    k: Annotated[int, Range(least=1, most=1000)] = 5
    kid_subset: Annotated[int, Range(least=2, most=2**24)] | None = None
    labels: bool | None = None
    importance_samples: Annotated[int, Range(least=1, most=2**20)] | None = None
    likelihood: dict[str, Any] = dataclasses.field(default_factory=dict)
    average: Name | None = "eval"
    speed_batches: tuple[Rows, ...] = (1, 64)
    repeats: Times = 3
    seed: Seed = 0

    def __post_init__(self):
        check(self)

    def set_size(self, eval_rows: int) -> int:
        """Return N for an eval split of `eval_rows` rows."""
        return self.samples or min(eval_rows, 10_000)

    def reference_size(self, train_rows: int) -> int:
        """Return the number of reference rows for a training split of `train_rows` rows."""
        return min(self.reference or 50_000, train_rows)
