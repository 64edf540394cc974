"""Score samples by their mean pairwise distance in feature space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.evaluation import distances, estimates
from genjax.evaluation.context import Context
from genjax.evaluation.distances import Frame, Points, Progress
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "pairwise_distance": Definition(
        "Distance between samples", "none", "diversity", "mean distance between two samples' features"
    )
}
REQUIRES = Requirements(samples=True, features=True)


def measure(context: Context) -> list[Score]:
    """Return the mean pairwise distance of each set."""
    statistic = lambda x: (mean_pairwise_distance(x),)
    return estimates.of_sets(context, SCORES, statistic, context.embeddings, "diversity")


@jax.jit
def _sum_of_distances(
    q: Float[Array, "C D"],
    q_norms: Float[Array, " C"],
    p: Float[Array, "N D"],
    p_norms: Float[Array, " N"],
    row: Float[Array, " C"],
    count: Float[Array, ""],
) -> Float[Array, " C"]:
    """Sum the distances of each row to every other row."""
    d2, bound = distances.squared(q, q_norms, p, p_norms)
    other = row[:, None] != jnp.arange(p.shape[0])[None, :]
    real = (jnp.arange(q.shape[0]) < count)[:, None]
    # Below the error bound float32 cannot tell the distance from 0: duplicates must count as 0.
    return jnp.where(other & real & (d2 > bound), jnp.sqrt(jnp.maximum(d2, 0)), 0).sum(1)


def mean_pairwise_distance(
    features: np.ndarray, *, chunk: int | None = None, progress: Progress | None = None
) -> float:
    """Compute the mean Euclidean distance over pairs of different rows of (N, D), in O(chunk * N) memory.

    Relative error about 1e-5 (float32 products, float64 sums). Low if samples collapse; compare it with
    the real data's, since noise has a large distance too.

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
