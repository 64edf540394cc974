"""A metric outside the package: the mean raw value of samples."""

from __future__ import annotations

from genjax.evaluation import Definition, Requirements, estimates

SCORES = {"brightness": Definition("Brightness", "none", "realism", "mean value of the samples")}
REQUIRES = Requirements(samples=True, raw=True)


def measure(context):
    """Return the mean raw value of each set."""
    return estimates.of_sets(context, SCORES, lambda x: (float(x.mean()),), context.raws, "brightness")
