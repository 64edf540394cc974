"""Form batches of rows of similar length, as pure functions of (seed, batch index)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genjax.data.permutation import permute
from genjax.data.plans import Plan
from genjax.errors import ConfigError

_BATCHES = 0xB0C4E7
"""Separates the seeds that shuffle batches from those that shuffle rows."""


class Epoch(NamedTuple):
    """Hold one pass over all rows: M batches of B rows.

    Attributes:
      rows: (M, B) row indices.
      mask: (M, B) float32, 0 on rows that pad the last batch.
      width: (M,) the length to which each batch is cut.
    """

    rows: np.ndarray
    mask: np.ndarray
    width: np.ndarray


class Buckets:
    """Divide epochs into batches of one bucket each.

    An epoch contains every row exactly once. Its rows are shuffled, sorted by bucket (a row's bucket is the
    smallest that holds it), and cut into batches of B. A batch therefore holds rows of one bucket, except at
    the few boundaries between buckets, where it takes the larger length. The batches are shuffled too; the
    incomplete one comes last and is padded under mask 0. An epoch has M = ceil(N / B) batches.

    Args:
      sizes: (N,) lengths of the rows, none above the last bucket.
      buckets: lengths, ascending.
      shuffled: False for one fixed order of rows and batches, whatever the seed and epoch: the rows of a
        bucket keep the order of the data. Batches of different buckets are mixed there too, so that the
        first few are a fair sample.

    Raises:
      ConfigError: a row is longer than the last bucket.
    """

    def __init__(self, sizes: np.ndarray, buckets: Sequence[int], batch: int, seed: int, shuffled: bool):
        self.buckets = np.array(buckets)
        self.batch = batch
        self.seed = seed
        self.shuffled = shuffled
        self._bucket = np.searchsorted(self.buckets, sizes)
        if len(sizes) and self._bucket.max() == len(self.buckets):
            raise ConfigError(
                f"a row of length {sizes.max()} fits no bucket of {tuple(buckets)}",
                "add a larger length to data.buckets",
            )
        self.batches = -(-len(sizes) // batch)
        self._epoch = functools.lru_cache(maxsize=3)(self._make)

    def __call__(self, index: int, part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        """Return (rows, mask, width) of rows [lo, hi) = `part` of the index-th batch."""
        epoch, at = divmod(index, self.batches)
        e = self._epoch(epoch if self.shuffled else 0)
        here = slice(*part)
        return e.rows[at, here], e.mask[at, here], int(e.width[at])

    def _make(self, epoch: int) -> Epoch:
        n = len(self._bucket)
        whole = n // self.batch
        rows = permute(n, self.seed, epoch, np.arange(n)) if self.shuffled else np.arange(n)
        rows = rows[np.argsort(self._bucket[rows], kind="stable")]
        order = permute(whole, (self.seed if self.shuffled else 0) ^ _BATCHES, epoch, np.arange(whole))
        # The incomplete batch has the longest rows, since they are sorted. It keeps its place at the end.
        place = np.r_[order, np.arange(whole, self.batches)]
        filled = np.minimum(np.arange(self.batches * self.batch), n - 1).reshape(-1, self.batch)
        mask = (np.arange(self.batches * self.batch) < n).astype(np.float32).reshape(-1, self.batch)
        width = self.buckets[self._bucket[rows[filled[:, -1]]]]
        return Epoch(rows[filled][place], mask[place], width[place])


class BucketPlans:
    """Plan batches by buckets: `details` is the width of the batch."""

    def __init__(self, buckets: Buckets):
        self.buckets = buckets

    @property
    def epoch(self) -> float:
        """The number of batches of an epoch."""
        return float(self.buckets.batches)

    def __call__(self, number: int, part: tuple[int, int], fresh: bool = False) -> Plan:
        """Return rows `part` of the batch `number`: see genjax.data.plans.Plans."""
        indices, mask, width = self.buckets(number, part)
        return Plan(indices, mask, details=width)
