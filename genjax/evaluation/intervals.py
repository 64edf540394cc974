"""Compute 95% intervals with the coverage that they state.

Resampling rows with replacement (the naive bootstrap) puts copies into a set. A Fréchet distance is biased by
the number of *distinct* rows and nearest-neighbour metrics count copies as neighbours, so the bootstrap's
values are shifted and its interval often excludes even the estimate itself. Use instead:

- `of_sets`: several independent sets, a Student t interval of the mean over sets. The estimand is the
  expectation of the metric at that set size, the protocol's `samples`.
- `subsampling`: if there is only one set (the eval split of small data). Halves without replacement.
- `wilson`: fractions of independent trials (accuracies).
- `of_ratio`: a total over a count, e.g. nats per token, from the spread of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """Hold an estimate with its interval; None if its spread is unknown."""

    value: float
    low: float | None
    high: float | None
    method: str


def of_sets(values: Sequence[float], level: float = 0.95) -> Interval:
    """Estimate the mean of a metric over independent sets, with Student's t interval.

    Raises:
      ValueError: no values, or one that is not finite.
    """
    x = np.asarray(values, np.float64)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"need finite values of at least one set, got {list(values)}")
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, "one set")
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, f"t over {len(x)} independent sets")


def subsampling(
    statistic: Callable[[np.ndarray], float | Sequence[float]],
    rows: int,
    *,
    repeats: int = 40,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Estimate intervals of statistics of one set of `rows` rows, by subsampling halves without replacement.

    A half drawn without replacement deviates from the whole set as much as the whole set does from the
    population (the delete-d jackknife, d = n/2: Shao and Wu 1989; Politis, Romano and Wolf 1999, ch. 2), for
    statistics whose error falls as 1 / sqrt(n). Halves have a bias of their own, so only their spread about
    their own mean is used; the interval is centred on the whole set's value.

    The n rows are one draw from a population; everything else (the reference) is held fixed.

    Args:
      statistic: of the rows with these indices -> one number, or several.
      rows: n.
      repeats: halves drawn.

    Raises:
      ValueError: fewer than 4 rows.
    """
    if rows < 4:
        raise ValueError(f"{rows} rows cannot be halved usefully")
    rng = np.random.default_rng(seed)
    whole = np.atleast_1d(np.asarray(statistic(np.arange(rows)), np.float64))
    draws = (np.sort(rng.permutation(rows)[: rows // 2]) for _ in range(repeats))
    halves = np.stack([np.atleast_1d(np.asarray(statistic(i), np.float64)) for i in draws])
    m = rows // 2
    deviation = halves.std(0, ddof=1) * math.sqrt(m / (rows - m))
    half = stats.t.ppf((1 + level) / 2, repeats - 1) * deviation
    method = f"subsampling, {repeats} halves"
    return [Interval(float(v), float(v - h), float(v + h), method) for v, h in zip(whole, half, strict=True)]


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Estimate a fraction of independent trials with Wilson's score interval (1927), valid near 0 and 1 too.

    Raises:
      ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = float(stats.norm.ppf((1 + level) / 2))
    p = successes / trials
    denominator = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / denominator
    half = z / denominator * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    # At 0 and at 1 the bound is the estimate itself; rounding must not put it on the other side.
    return Interval(
        p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), f"Wilson, n={trials}"
    )


def of_ratio(totals: np.ndarray, counts: np.ndarray, level: float = 0.95) -> Interval:
    """Estimate sum(totals) / sum(counts) with the interval from independent rows (or lanes).

    The ratio estimator: the variance is that of the residuals total_i - ratio * count_i (Cochran 1977,
    eq. 6.13), so rows may be of different lengths. Rows with count 0 are ignored.

    Raises:
      ValueError: nothing was counted.
    """
    totals = np.asarray(totals, np.float64)
    counts = np.asarray(counts, np.float64)
    totals = totals[counts > 0]
    counts = counts[counts > 0]
    n = len(counts)
    if not n:
        raise ValueError("nothing was counted")
    value = math.fsum(totals) / math.fsum(counts)
    if n == 1:
        return Interval(value, None, None, "one row")
    residuals = totals - value * counts
    error = math.sqrt(float(residuals @ residuals) / (n - 1) / n) / counts.mean()
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * error)
    return Interval(value, value - half, value + half, f"ratio estimator over {n} independent rows")
