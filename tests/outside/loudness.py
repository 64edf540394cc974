"""The metric of docs/extending.md: the root mean square of the samples' values."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import Definition, Requirements, estimates

SCORES = {"loudness": Definition("Loudness", "none", "realism", "root mean square of the values")}
REQUIRES = Requirements(samples=True, raw=True)


def measure(context):
    """Return the mean over the sets of samples (or of real held-out rows), with its interval."""
    return estimates.of_sets(context, SCORES, statistic, context.raws, "loudness")


def statistic(rows):
    """Compute the root mean square of one set (N, D), one value per score."""
    return (float(np.sqrt(np.square(rows).mean())),)
