"""Batches of rows that are nearly of one length, as pure functions of (seed, batch index)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genjax.data.permutation import permute
from genjax.errors import ConfigError

_BATCHES = 0xB0C4E7  # apart from the seeds that shuffle rows


class Epoch(NamedTuple):
    """One reading of all rows.

    Attributes:
      rows: (M, B) row indices.
      mask: (M, B) float32, 0 where a row only fills up the last batch.
      width: (M) the length to which each batch is cut.
    """

    rows: np.ndarray
    mask: np.ndarray
    width: np.ndarray


class Buckets:
    """Epochs of batches of one bucket each.

    An epoch has every row exactly once. Its rows are shuffled, sorted by bucket (a row's bucket is the
    smallest that holds it), and cut into batches of B: so a batch is of one bucket, but for the few in
    which one bucket ends and the next begins, which take the larger length. The batches come in an order of
    their own, the one that is not full last, filled up under mask 0: M = ceil(N / B) batches an epoch.

    Args:
      sizes: (N) lengths of the rows, none above the last bucket.
      buckets: lengths, rising.
      shuffled: False for one order of rows and batches whatever the seed and epoch: rows of a bucket then
        stand as in the data. Batches of different buckets are mixed there too, so that the first few of
        them are a fair sample.
    """

    def __init__(self, sizes: np.ndarray, buckets: Sequence[int], batch: int, seed: int, shuffled: bool):
        self.buckets, self.batch, self.seed, self.shuffled = np.array(buckets), batch, seed, shuffled
        self._bucket = np.searchsorted(self.buckets, sizes)
        if len(sizes) and self._bucket.max() == len(self.buckets):
            raise ConfigError(
                f"a row of length {sizes.max()} fits no bucket of {tuple(buckets)}",
                "a larger length in data.buckets",
            )
        self.batches = -(-len(sizes) // batch)
        self._epoch = functools.lru_cache(maxsize=3)(self._make)

    def __call__(self, index: int, part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        """(rows, mask, width) of rows [lo, hi) = `part` of the index-th batch."""
        epoch, at = divmod(index, self.batches)
        e, here = self._epoch(epoch if self.shuffled else 0), slice(*part)
        return e.rows[at, here], e.mask[at, here], int(e.width[at])

    def _make(self, epoch: int) -> Epoch:
        n, whole = len(self._bucket), len(self._bucket) // self.batch
        rows = permute(n, self.seed, epoch, np.arange(n)) if self.shuffled else np.arange(n)
        rows = rows[np.argsort(self._bucket[rows], kind="stable")]
        order = permute(whole, (self.seed if self.shuffled else 0) ^ _BATCHES, epoch, np.arange(whole))
        # What is not full must be of the longest: it is then at most one batch, and stands last.
        place = np.r_[order, np.arange(whole, self.batches)]
        filled = np.minimum(np.arange(self.batches * self.batch), n - 1).reshape(-1, self.batch)
        mask = (np.arange(self.batches * self.batch) < n).astype(np.float32).reshape(-1, self.batch)
        width = self.buckets[self._bucket[rows[filled[:, -1]]]]
        return Epoch(rows[filled][place], mask[place], width[place])
