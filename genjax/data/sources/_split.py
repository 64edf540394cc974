"""Fixed splits of data that comes without one."""

from __future__ import annotations

import numpy as np

from genjax.data.permutation import permute


def stratified(labels: np.ndarray, held: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, eval): `held` rows for evaluation, in each class in proportion to its size.

    Always the same for the same labels. Largest remainders settle the fractions; both parts come in a
    fixed random order, so that the first rows of each have all classes.
    """
    order = permute(len(labels), 0, 0, np.arange(len(labels)))
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * held / len(labels)
    quota = np.floor(share).astype(int)
    quota[np.argsort(-(share - quota), kind="stable")[: held - quota.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for c, q in zip(classes, quota, strict=True):
        chosen[order[labels[order] == c][:q]] = True
    # Another order: in the first one, what is chosen comes before what is left of its class.
    order = permute(len(labels), 0, 1, np.arange(len(labels)))
    return order[~chosen[order]], order[chosen[order]]
