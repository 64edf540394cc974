"""Measure how codes and factors depend on each other, from rows of both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BINS = 20
"""Of the values of a code, as in Locatello et al. 2019 (arXiv:1811.12359, app. C)."""


def binned(codes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each value of (N, D): `bins` of equal width between the extremes of a dimension."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum(((codes - low) / width * bins).astype(np.int64), bins - 1)


def entropy(x: np.ndarray) -> float:
    """Compute the entropy of integers (N,) in nats."""
    p = np.bincount(x) / len(x)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def mutual_information(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the mutual information of two columns of integers (N,) in nats."""
    joint = x.astype(np.int64) * (int(y.max()) + 1) + y
    return entropy(x) + entropy(y) - entropy(joint)


def table(codes: np.ndarray, factors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mutual information (D, K) of each binned code with each factor, in nats."""
    x = binned(codes)
    return np.array([[mutual_information(x[:, j], f) for f in factors.values()] for j in range(x.shape[1])])


def gaps(values: np.ndarray) -> np.ndarray:
    """Return the largest less the second largest of each column of (D, K)."""
    ordered = np.sort(values, axis=0)
    return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0.0)
