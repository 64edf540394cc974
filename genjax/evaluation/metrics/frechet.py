"""Score samples by the Fréchet distance in feature space (see evaluation/frechet.py)."""

from __future__ import annotations

from genjax.evaluation import estimates, frechet
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "frechet": Definition(
        "Fréchet distance",
        "lower",
        "realism",
        "squared Fréchet distance between Gaussians fitted to the features",
    )
}
REQUIRES = Requirements(samples=True, features=True)


def measure(context: Context) -> list[Score]:
    """Return the squared Fréchet distance between each set and the reference."""
    reference = context.reference.moments
    statistic = lambda x: (frechet.distance(reference, frechet.Moments.of(x)),)
    settings = {"metric": "squared Fréchet distance, unbiased covariances"}
    return estimates.of_sets(context, SCORES, statistic, context.embeddings, "frechet", **settings)
