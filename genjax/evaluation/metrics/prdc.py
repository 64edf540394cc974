"""Score samples by precision, recall, density and coverage (see evaluation/prdc.py)."""

from __future__ import annotations

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.prdc import prdc
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "precision": Definition("Precision", "higher", "realism", "samples that lie among the real data"),
    "recall": Definition("Recall", "higher", "diversity", "real data that lie among the samples"),
    "density": Definition(
        "Density", "higher", "realism", "average number of real neighbourhoods around a sample, over k"
    ),
    "coverage": Definition("Coverage", "higher", "diversity", "real neighbourhoods that hold a sample"),
}
REQUIRES = Requirements(samples=True, features=True)


def measure(context: Context) -> list[Score]:
    """Return precision, recall, density and coverage of each set against the reference."""
    manifold = context.reference.manifold
    statistic = lambda x: prdc(manifold, x)
    k = context.config.k
    return estimates.of_sets(context, SCORES, statistic, context.embeddings, "prdc", k + 1, k=k)
