"""Score samples by the mean absolute difference of neighbouring raw values."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import Definition, Requirements, estimates

SCORES = {
    "roughness": Definition(
        "Roughness", "lower", "realism", "mean absolute difference of neighbouring values"
    )
}
REQUIRES = Requirements(samples=True, raw=True)


def measure(context):
    """Return the roughness of each set."""
    statistic = lambda x: (float(np.abs(np.diff(x, axis=1)).mean()),)
    return estimates.of_sets(context, SCORES, statistic, context.raws, "roughness")
