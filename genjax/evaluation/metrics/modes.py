"""Test for mode collapse on mixtures of Gaussians whose components are labelled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from genjax.evaluation import distances, estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.reference import ReferenceStatistics
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "modes_found": Definition("Modes found", "higher", "diversity", "modes with at least one good sample"),
    "mode_divergence": Definition(
        "Mode divergence", "lower", "diversity", "divergence of the samples' modes from even use", "nats"
    ),
    "high_quality": Definition(
        "High-quality samples", "higher", "realism", "samples within 3 standard deviations of a mode"
    ),
}
REQUIRES = Requirements(samples=True, raw=True, labels=True, kinds=("point",))


def measure(context: Context) -> list[Score]:
    """Return the modes that the samples of all sets reach."""
    points = np.concatenate(context.raws)
    centres, deviation = components(context.reference)
    m = modes(points, centres, deviation)
    values = {
        "modes_found": estimates.exact(m.found),
        "mode_divergence": estimates.exact(m.divergence),
        "high_quality": wilson(round(m.high_quality * len(points)), len(points)),
    }
    protocol = context.reference.protocol(modes=m.total, within="3 standard deviations", points=len(points))
    return [estimates.of_interval(context, SCORES[k], k, v, protocol) for k, v in values.items()]


def components(reference: ReferenceStatistics) -> tuple[np.ndarray, float]:
    """Return the means (K, D) of the labelled components of the reference and their common deviation."""
    label = reference.rows[reference.dataset.spec.label]
    x = np.asarray(reference.raw, np.float64)
    used = np.unique(label)
    centres = np.stack([x[label == c].mean(0) for c in used])
    spread = np.concatenate([x[label == c] - centres[i] for i, c in enumerate(used)])
    return centres, float(spread.std())


class Modes(NamedTuple):
    """Hold the standard test of mode collapse (Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, sec. 5.1).

    Attributes:
      found: modes with at least one high-quality sample, of `total`.
      total: modes of the data.
      high_quality: the fraction of samples within `within` standard deviations of their nearest mode.
      divergence: Kullback-Leibler, in nats, of the high-quality samples' distribution over modes from the
        uniform one (0: even; log(total): all in one mode); log(total) without such samples.
    """

    found: int
    total: int
    high_quality: float
    divergence: float


def modes(points: np.ndarray, centres: np.ndarray, std: float, within: float = 3.0) -> Modes:
    """Assign points (N, D) to the components (K, D) of a mixture and count those that are reached.

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
