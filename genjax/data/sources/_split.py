"""Divide data that has no split of its own, always in the same way."""

from __future__ import annotations

import numpy as np

from genjax.data.permutation import permute


def stratified(labels: np.ndarray, held: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices (train, eval), with `held` rows for evaluation in proportion to the size of each class.

    The result depends on the labels alone. Fractions are rounded by the largest-remainder method. Both parts
    are in a fixed random order, so that their first rows contain all classes.
    """
    order = permute(len(labels), 0, 0, np.arange(len(labels)))
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * held / len(labels)
    quota = np.floor(share).astype(int)
    quota[np.argsort(-(share - quota), kind="stable")[: held - quota.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for c, q in zip(classes, quota, strict=True):
        chosen[order[labels[order] == c][:q]] = True
    # Shuffle again: in the first order, the held-out rows of a class come before its other rows.
    order = permute(len(labels), 0, 1, np.arange(len(labels)))
    return order[~chosen[order]], order[chosen[order]]
