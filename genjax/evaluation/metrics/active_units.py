"""Count the dimensions of a latent space that depend on the data.

The active units of Burda et al. 2016 (arXiv:1509.00519, sec. 5.2). A dimension is active if the variance of
its posterior mean over rows exceeds 0.01. A collapsed posterior equals the prior for every row, so that its
mean does not vary.
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

THRESHOLD = 0.01
SCORES = {
    "active_units": Definition(
        "Active units", "higher", "diversity", "dimensions of the code whose mean varies over rows"
    )
}
REQUIRES = Requirements(model=True, codes=True)


def measure(context: Context) -> list[Score]:
    """Return the number of active dimensions on the first N held-out rows."""
    protocol = context.protocol(
        split="eval", rows=len(context.codes), dimensions=context.codes.shape[1], threshold=THRESHOLD
    )
    found = estimates.exact(active(context.codes))
    return [estimates.of_interval(context, SCORES["active_units"], "active_units", found, protocol)]


def active(codes: np.ndarray) -> int:
    """Count the dimensions of codes (N, D) whose variance exceeds the threshold."""
    return int((codes.var(0) > THRESHOLD).sum())
