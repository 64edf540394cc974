"""Diagnose mode collapse: find parts of the training data that samples leave out.

Training rows are divided into bins by k-means (Richardson & Weiss 2018, arXiv:1805.12462, sec. 3). A bin is
lost if it has less than a tenth of the samples that are due to it, and if so few are no accident. Rows that
lie in clear groups, such as the modes of a mixture, are divided into these groups; others into DEFAULT bins.
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
SHARE = 0.1
CHANCE = 1e-3
"""Of an alarm without a cause, over all bins."""


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
    """

    lost: tuple[int, ...]
    missing: float
    bins: int
    samples: int

    @property
    def collapsed(self) -> bool:
        """Return True if a bin is lost."""
        return bool(self.lost)

    def __str__(self) -> str:
        if not self.lost:
            return f"{self.samples} samples reach all {self.bins} parts of the training rows"
        return (
            f"collapse: {self.samples} samples leave out {len(self.lost)} of {self.bins} parts "
            f"of the training rows, {self.missing:.0%} of them"
        )


def diagnose(bins: Bins, samples: np.ndarray) -> Diagnosis:
    """Find the bins that samples (N, D) have lost."""
    n = len(samples)
    counts = bins.counts(samples)
    few = counts < SHARE * n * bins.shares
    unlikely = binom.cdf(counts, n, bins.shares) < CHANCE / len(counts)
    lost = np.flatnonzero(few & unlikely)
    return Diagnosis(tuple(map(int, lost)), float(bins.shares[lost].sum()), len(counts), n)


def _groups(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the centres of the clearest division; of DEFAULT bins if none is clear."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    tries: Any = 4
    fit = lambda k: KMeans(k, n_init=tries, random_state=seed).fit(rows)
    best = None
    clearest = CLEAR
    for k in CANDIDATES:
        if k >= len(rows):
            break
        means = fit(k)
        labels = np.asarray(means.labels_)
        if len(np.unique(labels)) < 2:  # equal rows: there is nothing to divide
            continue
        clear = silhouette_score(rows, labels, sample_size=1000, random_state=seed)
        if clear > clearest:
            best = means.cluster_centers_
            clearest = clear
    return fit(min(DEFAULT, len(rows))).cluster_centers_ if best is None else best
