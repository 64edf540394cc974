"""Score a latent space by separated attribute predictability (Kumar et al. 2018, arXiv:1711.00848, sec. 3).

For every factor, each dimension predicts its value alone. The score is the lead of the best dimension over
the second, mean over the factors. A prediction is the most frequent value of the factor in the bin of the
dimension (20 bins, counted on one half of the rows and judged on the other): values need no order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.evaluation import estimates, information
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import subsampling
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "sap": Definition(
        "SAP",
        "higher",
        "controllability",
        "lead in accuracy of the best dimension over the second, per factor",
    )
}
REQUIRES = Requirements(model=True, codes=True, factors=True)


def measure(context: Context) -> list[Score]:
    """Return the score on held-out rows; its interval is from halves of them."""
    factors = context.factors
    statistic = lambda i: sap(context.codes[i], {k: v[i] for k, v in factors.items()})
    (interval,) = subsampling(statistic, len(context.codes), seed=context.config.seed)
    protocol = context.protocol(split="eval", rows=len(context.codes), bins=information.BINS)
    return [estimates.of_interval(context, SCORES["sap"], "sap", interval, protocol)]


def sap(codes: np.ndarray, factors: Mapping[str, np.ndarray]) -> float:
    """Compute the lead of codes (N, D) and factors (N,)."""
    x = information.binned(codes)
    half = len(x) // 2
    accuracy = np.array([[_accuracy(x[:, j], f, half) for f in factors.values()] for j in range(x.shape[1])])
    return float(information.gaps(accuracy).mean())


def _accuracy(x: np.ndarray, factor: np.ndarray, half: int) -> float:
    """Return the share of rows from `half` on whose factor is the most frequent one of their bin before."""
    counts = np.zeros((information.BINS, int(factor.max()) + 1), np.int64)
    np.add.at(counts, (x[:half], factor[:half]), 1)
    return float((counts.argmax(1)[x[half:]] == factor[half:]).mean())
