"""Compare samples with their nearest training rows, as a test of memorisation.

Distances are Euclidean, in raw space (pixels in [0, 1], points as they are): a copy shows there first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.distances import Progress, nearest
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "memorisation": Definition(
        "Memorisation",
        "none",
        "diversity",
        "chance that a sample is nearer to the training data than a fresh real row",
    ),
    "authenticity": Definition(
        "Authenticity",
        "higher",
        "diversity",
        "samples farther from their nearest training row than that row is from its own nearest",
    ),
    "nearest_train": Definition(
        "Distance to training data",
        "none",
        "diversity",
        "mean distance of a sample to its nearest training row",
    ),
}
REQUIRES = Requirements(samples=True, raw=True)


def measure(context: Context) -> list[Score]:
    """Return memorisation, authenticity and distance of each set.

    Held-out real rows have no memorisation: they are themselves the standard that it is measured by.
    """
    reference = context.reference
    definitions = {k: v for k, v in SCORES.items() if not context.real or k != "memorisation"}

    def statistic(x: np.ndarray) -> tuple[float, ...]:
        m = memorisation(
            x,
            reference.raw,
            train_distances=reference.distances,
            held_out_distances=reference.held_out_distances,
        )
        found = {"memorisation": m.nearer, "authenticity": m.authenticity, "nearest_train": m.distance}
        return tuple(found[name] for name in definitions)

    settings = {"features": "raw values", "held_out": "eval", "held_out_rows": reference.size}
    return estimates.of_sets(context, definitions, statistic, context.raws, "neighbours", **settings)


class Memorisation(NamedTuple):
    """Compare the distances of samples and of fresh real rows to the training rows.

    Attributes:
      nearer: the chance that a random sample is nearer to the training set than a random held-out real row
        is (ties count half): 1/2 for samples as fresh as new data, towards 1 for copies, towards 0 for
        samples off the data. The Mann-Whitney statistic of the data-copying test (Meehan et al. 2020,
        arXiv:2004.05675, sec. 3).
      p_value: of as much nearness or more, if samples were as fresh as the held-out rows (one-sided).
      copies: the fraction of samples that equal a training row exactly.
      authenticity: the fraction of samples that are farther from their nearest training row than that row
        is from its own nearest other training row (Alaa et al. 2022, arXiv:2102.08921, sec. 3.3).
      distance: the mean distance of a sample to its nearest training row.
    """

    nearer: float
    p_value: float
    copies: float
    authenticity: float
    distance: float


def memorisation(
    samples: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray | None = None,
    *,
    train_distances: np.ndarray | None = None,
    held_out_distances: np.ndarray | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Memorisation:
    """Measure memorisation of `train` (N, D) in `samples` (M, D) against `held_out` (H, D) real rows.

    Args:
      train_distances: (N,) of each training row to its nearest other one, if they are known already.
      held_out_distances: (H,) of each held-out row to its nearest training row, in place of `held_out`.

    Raises:
      ValueError: neither held_out nor held_out_distances, or bad features.
    """
    to_train, index = nearest(samples, train, 1, chunk=chunk, progress=progress)
    if held_out_distances is None:
        if held_out is None:
            raise ValueError("give held_out rows, or their distances")
        held_out_distances = nearest(held_out, train, 1, chunk=chunk)[0][:, 0]
    if train_distances is None:
        train_distances = nearest(train, train, 1, exclude_self=True, chunk=chunk)[0][:, 0]
    d = to_train[:, 0]
    i = index[:, 0]
    test = stats.mannwhitneyu(held_out_distances, d, alternative="greater")
    return Memorisation(
        nearer=float(test.statistic / (len(d) * len(held_out_distances))),
        p_value=float(test.pvalue),
        copies=float((d == 0).mean()),
        authenticity=float((d > train_distances[i]).mean()),
        distance=float(d.mean()),
    )
