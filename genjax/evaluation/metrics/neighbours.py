"""Nearest training neighbours of samples, and what they say of memorisation.

Distances are Euclidean, in the pixels' own units or in a feature space: the caller flattens or embeds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from genjax.evaluation.distances import Progress, nearest


class Memorisation(NamedTuple):
    """How near samples are to the training rows, against how near fresh real rows are.

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
    """Memorisation of `train` (N, D) in `samples` (M, D), judged by `held_out` (H, D) real rows.

    Args:
      train_distances: (N,) of each training row to its nearest other, where it is known already.
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
    d, i = to_train[:, 0], index[:, 0]
    test = stats.mannwhitneyu(held_out_distances, d, alternative="greater")
    return Memorisation(
        nearer=float(test.statistic / (len(d) * len(held_out_distances))),
        p_value=float(test.pvalue),
        copies=float((d == 0).mean()),
        authenticity=float((d > train_distances[i]).mean()),
        distance=float(d.mean()),
    )
