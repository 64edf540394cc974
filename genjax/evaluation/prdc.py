"""Compute precision, recall, density and coverage from k-nearest-neighbour balls.

Precision and recall: Kynkaanniemi et al. 2019 (arXiv:1904.06991, eq. 1-3); density and coverage: Naeem et al.
2020 (arXiv:2002.09797, eq. 3-4). All depend on the counts of both sides and on k: compare only at equal ones.
Time is O((N^2 + M^2 + N M) D), memory O(chunk * N); never an N by N matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from genjax.evaluation import distances
from genjax.evaluation.distances import Frame, Points, Progress


class Prdc(NamedTuple):
    """Hold the four numbers: in [0, 1], except density, whose expectation is 1 for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


class Manifold(NamedTuple):
    """Hold points and the squared distance of each to its k-th neighbour among them: one side's balls.

    Computed once for a reference that many sets are compared with.
    """

    points: Points
    radii: np.ndarray
    frame: Frame
    k: int

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        k: int = 5,
        *,
        frame: Frame | None = None,
        chunk: int | None = None,
        progress: Progress | None = None,
    ) -> Manifold:
        """Compute the balls of features (N, D).

        Raises:
          ValueError: fewer than k + 1 rows, or bad features.
        """
        (features,) = distances.check(features)
        frame = frame or Frame.of(features)
        points = Points.of(features, frame)
        return cls(points, distances.radii(points, k, chunk, progress), frame, k)


def prdc(
    real: np.ndarray | Manifold,
    fake: np.ndarray,
    k: int = 5,
    *,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Prdc:
    """Compute precision, recall, density and coverage of `fake` (M, D) against `real` (N, D).

    Args:
      real: features, or their Manifold (then its k is used).
      chunk: rows at a time; memory is O(chunk * max(N, M)). It does not change the result.
      progress: called with (rows done, rows in all) over the two or three passes.

    Raises:
      ValueError: fewer than k + 1 rows on a side, dimensions that differ, or features that are not finite.
    """
    passes = 2 * len(fake) + (0 if isinstance(real, Manifold) else len(real))
    done = 0

    def tick(before: int) -> Progress | None:
        def report(rows: int, _: int, to=progress):
            if to:
                to(before + rows, passes)

        return report if progress else None

    if not isinstance(real, Manifold):
        distances.check(real, fake)
        done = len(real)
        real = Manifold.of(real, k, chunk=chunk, progress=tick(0))
    distances.check(real.points.raw, fake)
    balls = Manifold.of(fake, real.k, frame=real.frame, chunk=chunk, progress=tick(done))
    inside, covered, recalled = distances.memberships(
        balls.points, balls.radii, real.points, real.radii, chunk, tick(done + len(fake))
    )
    return Prdc(
        precision=float((inside > 0).mean()),
        recall=float(recalled.mean()),
        density=float(inside.sum() / (real.k * len(inside))),
        coverage=float(covered.mean()),
    )
