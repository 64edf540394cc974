"""Score a latent space by the FactorVAE metric (Kim & Mnih 2018, arXiv:1802.05983, sec. 4).

A group of rows shares the value of one factor. The dimension whose variance in the group is the smallest
share of its variance over all rows votes for that factor. The score is the accuracy of the majority vote of
each dimension. Dimensions that hardly vary (below 5% of the prior's standard deviation) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "factor_vote": Definition(
        "FactorVAE score",
        "higher",
        "controllability",
        "factors recognised by the dimension that varies least",
    )
}
REQUIRES = Requirements(model=True, codes=True, factors=True)
GROUPS, ROWS, SMALLEST = 800, 64, 0.05


def measure(context: Context) -> list[Score]:
    """Return the accuracy of the votes on held-out rows, the second half of the groups."""
    hits = votes(context.codes, context.factors, context.config.seed)
    protocol = context.protocol(split="eval", rows=len(context.codes), groups=GROUPS, group_rows=ROWS)
    interval = wilson(int(hits.sum()), len(hits))
    return [estimates.of_interval(context, SCORES["factor_vote"], "factor_vote", interval, protocol)]


def votes(codes: np.ndarray, factors: Mapping[str, np.ndarray], seed: int = 0) -> np.ndarray:
    """Return whether the vote is right (GROUPS / 2,), for codes (N, D) and factors (N,)."""
    random = np.random.RandomState(seed)
    deviation = codes.std(0)
    active = np.flatnonzero(deviation > SMALLEST)
    if not len(active):
        return np.zeros(GROUPS // 2, bool)
    z = codes[:, active] / deviation[active]
    columns = list(factors.values())
    seen = np.zeros((len(active), len(columns)), np.int64)
    hits = []
    for group in range(GROUPS):
        k = random.randint(len(columns))
        value = columns[k][random.randint(len(z))]
        rows = random.choice(np.flatnonzero(columns[k] == value), ROWS)
        j = z[rows].var(0).argmin()
        if group < GROUPS // 2:
            seen[j, k] += 1
        else:
            hits.append(seen[j].argmax() == k)
    return np.array(hits)
