"""Compute the kernel distance between two sets of features (Binkowski et al. 2018, KID, arXiv:1801.01401).

The squared maximum mean discrepancy under the cubic kernel k(x, y) = (x.y / D + 1)^3, by its unbiased
estimator (eq. 4): the diagonals are left out, so that its mean is zero for equal distributions at any count
and it may be negative. In float64 on the host, in chunks: it is a small difference of large sums, which
float32 loses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.distances import Progress
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "kid": Definition("KID", "lower", "realism", "kernel distance between the features, unbiased"),
}
REQUIRES = Requirements(samples=True, features=True)


def measure(context: Context) -> list[Score]:
    """Return the kernel distance between each set and the reference."""
    reference = context.reference.embeddings
    config = context.config

    def statistic(x: np.ndarray) -> tuple[float]:
        subset = None if config.kid_subset is None else min(config.kid_subset, len(x))
        return (kid(reference, x, subset=subset, seed=config.seed),)

    settings = {"metric": "unbiased cubic MMD^2", "subset": config.kid_subset}
    return estimates.of_sets(context, SCORES, statistic, context.embeddings, "kid", **settings)


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subset: int | None = None,
    subsets: int = 100,
    seed: int = 0,
    chunk: int = 1024,
    progress: Progress | None = None,
) -> float:
    """Compute the squared MMD between features (N, D) and (M, D).

    Args:
      subset: None uses every pair: the estimator of least variance. A number gives the mean over `subsets`
        random subsets of that many rows of each, drawn without replacement, as in the paper's tables
        (1,000); both estimate the same quantity, without bias.
      seed: of the subsets.
      chunk: rows at a time; memory is O(chunk * M).
      progress: called with (done, total).

    Raises:
      ValueError: fewer than two rows on a side, a subset larger than a side, or dimensions that differ.
    """
    real = np.asarray(real, np.float64)
    fake = np.asarray(fake, np.float64)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {real.shape} and {fake.shape}")
    size = min(len(real), len(fake)) if subset is None else subset
    if size < 2 or size > min(len(real), len(fake)):
        raise ValueError(
            f"subsets of {size} rows of {len(real)} and {len(fake)}: need at least 2 and at most all"
        )
    if subset is None:
        return _mmd2(real, fake, chunk, progress)
    rng = np.random.default_rng(seed)
    total = 0.0
    for i in range(subsets):
        x = real[rng.choice(len(real), subset, replace=False)]
        y = fake[rng.choice(len(fake), subset, replace=False)]
        total += _mmd2(x, y, chunk, None)
        if progress:
            progress(i + 1, subsets)
    return total / subsets


def _mmd2(x: np.ndarray, y: np.ndarray, chunk: int, progress: Progress | None) -> float:
    """Compute the unbiased estimator over all pairs (eq. 4)."""
    n = len(x)
    m = len(y)
    steps = -(-n // chunk) * 2 + -(-m // chunk)
    done = 0

    def tick():
        nonlocal done
        done += 1
        if progress:
            progress(done, steps)

    xx = _total(x, x, chunk, tick) - _diagonal(x)
    yy = _total(y, y, chunk, tick) - _diagonal(y)
    xy = _total(x, y, chunk, tick)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _cube(k: np.ndarray, dim: int) -> np.ndarray:
    """Return (k / dim + 1)^3, in place: products, since a power of 3 is many times slower."""
    k /= dim
    k += 1
    square = k * k
    square *= k
    return square


def _total(x: np.ndarray, y: np.ndarray, chunk: int, tick: Callable[[], None]) -> float:
    """Sum the kernel over all pairs; half of them are computed if both sides are the same array."""
    total = 0.0
    for start in range(0, len(x), chunk):
        rows = x[start : start + chunk]
        if y is x:  # symmetric: the block on the diagonal once, those to its right twice
            total += _cube(rows @ rows.T, x.shape[1]).sum()
            total += 2 * _cube(rows @ x[start + chunk :].T, x.shape[1]).sum()
        else:
            total += _cube(rows @ y.T, x.shape[1]).sum()
        tick()
    return float(total)


def _diagonal(x: np.ndarray) -> float:
    """Sum the kernel of each row with itself."""
    return float(_cube(np.einsum("nd,nd->n", x, x), x.shape[1]).sum())
