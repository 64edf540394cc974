"""Score translated images by the search for their true partners among the held-out targets.

A translation is a query. Its rank is that of the true target of its source among all held-out targets, by
Euclidean distance of features. Unlike an error in pixels, this asks whether the content was kept.
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

RANKS = {"retrieval_top1": 1, "retrieval_top5": 5}
SCORES = {
    name: Definition(
        f"Retrieval, top {rank}",
        "higher",
        "alignment",
        f"translations whose true target is among the {rank} nearest of all held-out targets",
    )
    for name, rank in RANKS.items()
}
REQUIRES = Requirements(model=True, samples=True, features=True, paired=True, kinds=("image",))

CHUNK = 512
"""Queries whose distances are in memory at once."""


def measure(context: Context) -> list[Score]:
    """Return top-1 and top-5 retrieval; the detail `untranslated` is that of the sources themselves."""
    target = context.target
    assert target is not None
    count = min(context.count, len(context.dataset.eval))
    rows = context.dataset.eval.rows(np.arange(len(context.dataset.eval)))
    embed = lambda images: context.reference.embed({target: images})
    targets = embed(rows[target])
    found = ranks(embed(context.samples[target][:count]), targets)
    plain = None
    for name in context.spec.conditions:
        if context.spec[name].shape == context.spec[target].shape:
            plain = ranks(embed(rows[name][:count]), targets)
    protocol = context.reference.protocol(queries=count, candidates=len(targets))
    scores = []
    for name, rank in RANKS.items():
        detail = {} if plain is None else {"untranslated": float((plain < rank).mean())}
        interval = wilson(int((found < rank).sum()), count)
        scores.append(estimates.of_interval(context, SCORES[name], name, interval, protocol, **detail))
    return scores


def ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return how many targets (M, D) are nearer to each query (N, D) than its own, that of the same row.

    Targets at the same distance count as nearer: a constant query finds nothing.

    Raises:
      ValueError: there are more queries than targets.
    """
    if len(queries) > len(targets):
        raise ValueError(f"{len(queries)} queries have only {len(targets)} targets")
    queries = queries.astype(np.float64)
    targets = targets.astype(np.float64)
    norms = np.square(targets).sum(1)
    found = []
    for start in range(0, len(queries), CHUNK):
        some = queries[start : start + CHUNK]
        squared = norms[None] - 2 * some @ targets.T
        at = np.arange(len(some))
        own = squared[at, start + at]
        # Itself is at its own distance and does not count.
        found.append((squared <= own[:, None]).sum(1) - 1)
    return np.concatenate(found)
