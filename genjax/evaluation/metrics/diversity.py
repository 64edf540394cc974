"""How varied samples are: mean pairwise distance, and the mode-collapse test on mixtures of Gaussians."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.evaluation import distances
from genjax.evaluation.distances import Frame, Points, Progress


class Modes(NamedTuple):
    """The standard test of mode collapse (Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, sec. 5.1).

    Attributes:
      found: modes with at least one high-quality sample, of `total`.
      total: modes there are.
      high_quality: the fraction of samples within `within` standard deviations of their nearest mode.
      divergence: Kullback-Leibler, in nats, of the high-quality samples' distribution over modes from the
        uniform one (0: even; log(total): all in one mode); log(total) where there are none.
    """

    found: int
    total: int
    high_quality: float
    divergence: float


def modes(points: np.ndarray, centres: np.ndarray, std: float, within: float = 3.0) -> Modes:
    """Which of the mixture's components (K, D) samples (N, D) reach.

    Raises:
      ValueError: dimensions differ, or std is not positive.
    """
    points, centres = distances.check(points, centres)
    if std <= 0:
        raise ValueError(f"std must be positive, got {std}")
    distance, index = distances.nearest(points, centres, 1)
    good = distance[:, 0] <= within * std
    counts = np.bincount(index[good, 0], minlength=len(centres))
    p = counts[counts > 0] / max(counts.sum(), 1)
    divergence = np.log(len(centres)) + float((p * np.log(p)).sum())
    return Modes(int((counts > 0).sum()), len(centres), float(good.mean()), max(0.0, float(divergence)))


@jax.jit
def _sum_of_distances(
    q: Float[Array, "C D"],
    q_norms: Float[Array, " C"],
    p: Float[Array, "N D"],
    p_norms: Float[Array, " N"],
    row: Float[Array, " C"],
    count: Float[Array, ""],
) -> Float[Array, " C"]:
    """Each row's sum of distances to every other row."""
    d2, bound = distances.squared(q, q_norms, p, p_norms)
    other = row[:, None] != jnp.arange(p.shape[0])[None, :]
    real = (jnp.arange(q.shape[0]) < count)[:, None]
    # Below the error bound float32 cannot tell the distance from 0: duplicates must count as 0.
    return jnp.where(other & real & (d2 > bound), jnp.sqrt(jnp.maximum(d2, 0)), 0).sum(1)


def mean_pairwise_distance(
    features: np.ndarray, *, chunk: int | None = None, progress: Progress | None = None
) -> float:
    """The mean Euclidean distance over pairs of different rows of (N, D), in O(chunk * N) memory.

    Relative error about 1e-5 (float32 products, float64 sums). Low where samples collapse; read it beside
    the real data's, since noise is varied too.

    Raises:
      ValueError: fewer than two rows, or bad features.
    """
    (features,) = distances.check(features)
    n = len(features)
    if n < 2:
        raise ValueError("a pair needs two rows")
    p = Points.of(features, Frame.of(features))
    size = distances.chunk_of(n, n, chunk)
    total = 0.0
    for start, count, rows, norms in p.chunks(size):
        index = jnp.arange(start, start + size)
        sums = _sum_of_distances(rows, norms, p.scaled, p.norms, index, jnp.int32(count))
        total += float(np.asarray(sums, np.float64).sum())
        if progress:
            progress(start + count, n)
    return total * p.scale / (n * (n - 1))


def effective_classes(labels: np.ndarray, classes: int) -> float:
    """exp(entropy) of labels' empirical distribution: how many classes are in even use, in [1, classes].

    Raises:
      ValueError: no labels.
    """
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("no labels")
    p = np.bincount(labels.astype(np.int64), minlength=classes) / labels.size
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
