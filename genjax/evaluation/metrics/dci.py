"""Score a latent space by disentanglement, completeness and informativeness (Eastwood & Williams 2018).

A random forest predicts each factor from all dimensions; R (D, K) holds the importance of each dimension.
Disentanglement is 1 - H(row of R) / log K, weighted by the importance of the dimension: whether a dimension
knows one factor. Completeness is 1 - H(column of R) / log D: whether a factor is in one dimension.
Informativeness is the accuracy on rows that the forest has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "disentanglement": Definition(
        "Disentanglement (DCI)", "higher", "controllability", "each dimension predicts one factor"
    ),
    "completeness": Definition(
        "Completeness (DCI)", "higher", "controllability", "each factor is predicted by one dimension"
    ),
    "informativeness": Definition(
        "Informativeness (DCI)", "higher", "controllability", "factors are predicted from the codes: accuracy"
    ),
}
REQUIRES = Requirements(model=True, codes=True, factors=True)
TREES, DEPTH = 30, 12


def measure(context: Context) -> list[Score]:
    """Return the three scores on held-out rows, the last quarter of them for the accuracy."""
    values = dci(context.codes, context.factors, context.config.seed)
    protocol = context.protocol(split="eval", rows=len(context.codes), trees=TREES, depth=DEPTH)
    return [
        estimates.of_interval(context, SCORES[name], name, estimates.exact(value), protocol)
        for name, value in values.items()
    ]


def dci(codes: np.ndarray, factors: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, float]:
    """Compute the scores of codes (N, D) and factors (N,)."""
    from sklearn.ensemble import RandomForestClassifier

    split = len(codes) * 3 // 4
    importance = []
    accuracy = []
    for factor in factors.values():
        forest = RandomForestClassifier(TREES, max_depth=DEPTH, random_state=seed)
        forest.fit(codes[:split], factor[:split])
        importance.append(forest.feature_importances_)
        accuracy.append(forest.score(codes[split:], factor[split:]))
    R = np.array(importance).T
    return {
        "disentanglement": disentanglement(R),
        "completeness": disentanglement(R.T),
        "informativeness": float(np.mean(accuracy)),
    }


def disentanglement(R: np.ndarray) -> float:
    """Compute the weighted mean over rows of 1 - H(row) / log(columns)."""
    weight = R.sum(1)
    p = R / np.maximum(weight[:, None], 1e-12)
    h = -(p * np.log(np.maximum(p, 1e-12))).sum(1) / np.log(R.shape[1]) if R.shape[1] > 1 else 0 * weight
    return float(((1 - h) * weight).sum() / max(weight.sum(), 1e-12))
