"""Diagnose mode collapse: find parts of the training data that samples leave out.

Training rows are divided into bins by k-means (Richardson & Weiss 2018, arXiv:1805.12462, sec. 3). A bin is
lost if it has less than a tenth of the samples that it should have, and if so few are no accident. Rows that
lie in clear groups, such as the modes of a mixture, are divided into these groups; others into DEFAULT bins.
Samples that lie between the groups still belong to the nearest one: where few samples are near any training
row, the bins prove nothing, and that itself is reported.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

CANDIDATES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50)
"""Numbers of groups that are tried."""
CLEAR = 0.5
"""The least silhouette (Rousseeuw 1987) of clear groups."""
DEFAULT = 20
ROWS = 3000
"""Training rows that the groups are looked for in."""
DIMENSIONS = 32
"""Principal components of the rows."""
LEAST = 0.1
"""Of an even share, that every clear group has: a few distant rows are no group of their own."""
SHARE = 0.1
CHANCE = 1e-3
"""Of an alarm without a cause, over all bins."""
FAR = 0.25
"""The least precision (evaluation/prdc.py) at which samples count as like the training rows."""


class Bins(NamedTuple):
    """Hold a division of rows (N, D).

    Attributes:
      mean: (D,) of the rows.
      basis: (D, d), principal directions.
      centres: (K, d) of the bins.
      shares: (K,), of the rows in each bin.
    """

    mean: np.ndarray
    basis: np.ndarray
    centres: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, seed: int = 0) -> Bins:
        """Divide training rows (N, D)."""
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(0)
        chosen = np.random.default_rng(seed).permutation(len(rows))[:ROWS]
        _, _, directions = np.linalg.svd(rows[chosen] - mean, full_matrices=False)
        basis = directions[:DIMENSIONS].T
        centres = _groups((rows[chosen] - mean) @ basis, seed)
        found = cls(mean, basis, centres, np.zeros(len(centres)))
        counts = found.counts(rows)
        return found._replace(shares=counts / counts.sum())

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of rows (N, D) in each bin."""
        at = (np.asarray(rows, np.float64) - self.mean) @ self.basis
        distance = (at**2).sum(1)[:, None] - 2 * at @ self.centres.T + (self.centres**2).sum(1)
        return np.bincount(distance.argmin(1), minlength=len(self.centres))


class Diagnosis(NamedTuple):
    """Hold what is missing.

    Attributes:
      lost: numbers of the bins that are lost.
      missing: share of the training rows in them.
      bins: how many there are.
      samples: how many were looked at.
      precision: share of the samples that lie among the training rows; None if it was not measured.
    """

    lost: tuple[int, ...]
    missing: float
    bins: int
    samples: int
    precision: float | None = None

    @property
    def far(self) -> bool:
        """Return True if few samples lie among the training rows."""
        return self.precision is not None and self.precision < FAR

    @property
    def alarm(self) -> bool:
        """Return True if a bin is lost, or few samples lie among the training rows."""
        return bool(self.lost) or self.far

    def __str__(self) -> str:
        found = []
        if self.lost:
            found.append(
                f"collapse: {self.samples} samples leave out {len(self.lost)} of {self.bins} parts "
                f"of the training rows, {self.missing:.0%} of them"
            )
        if self.far:
            found.append(f"only {self.precision:.0%} of {self.samples} samples lie among the training rows")
        return "; ".join(found) or f"{self.samples} samples reach all {self.bins} parts of the training rows"


def diagnose(bins: Bins, samples: np.ndarray, precision: float | None = None) -> Diagnosis:
    """Find the bins that samples (N, D) have lost.

    Args:
      precision: of the samples, if it was measured.
    """
    n = len(samples)
    counts = bins.counts(samples)
    few = counts < SHARE * n * bins.shares
    unlikely = binom.cdf(counts, n, bins.shares) < CHANCE / len(counts)
    lost = np.flatnonzero(few & unlikely)
    return Diagnosis(tuple(map(int, lost)), float(bins.shares[lost].sum()), len(counts), n, precision)


def _groups(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the centres of the clearest division; of DEFAULT bins if none is clear."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    tries: Any = 4
    fit = lambda k: KMeans(k, n_init=tries, random_state=seed).fit(rows)
    best = None
    clearest = CLEAR
    some = np.random.default_rng(seed).permutation(len(rows))[:1000]
    for k in CANDIDATES:
        if k >= len(rows):
            break
        means = fit(k)
        labels = np.asarray(means.labels_)
        counts = np.bincount(labels, minlength=k)
        # Equal rows have nothing to divide, and an outlier is no group.
        if counts.min() < LEAST * len(rows) / k or len(np.unique(labels[some])) < 2:
            continue
        clear = silhouette_score(rows[some], labels[some])
        if clear > clearest:
            best = means.cluster_centers_
            clearest = clear
    return fit(min(DEFAULT, len(rows))).cluster_centers_ if best is None else best
