"""Score a latent space by its mutual information gap (Chen et al. 2018, arXiv:1802.04942, eq. 6).

    MIG = mean over factors v of (I(z_a; v) - I(z_b; v)) / H(v)

z_a and z_b are the two dimensions that know most about v; codes are divided into 20 bins. 1 where each factor
is in one dimension alone.
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
    "mig": Definition(
        "MIG", "higher", "controllability", "mutual information gap of the codes, mean over the factors"
    )
}
REQUIRES = Requirements(model=True, codes=True, factors=True)


def measure(context: Context) -> list[Score]:
    """Return the score on held-out rows; its interval is from halves of them."""
    factors = context.factors
    statistic = lambda i: mig(context.codes[i], {k: v[i] for k, v in factors.items()})
    (interval,) = subsampling(statistic, len(context.codes), seed=context.config.seed)
    protocol = context.protocol(split="eval", rows=len(context.codes), bins=information.BINS)
    return [estimates.of_interval(context, SCORES["mig"], "mig", interval, protocol)]


def mig(codes: np.ndarray, factors: Mapping[str, np.ndarray]) -> float:
    """Compute the gap of codes (N, D) and factors (N,)."""
    entropies = np.array([information.entropy(f) for f in factors.values()])
    return float((information.gaps(information.table(codes, factors)) / entropies).mean())
