"""Pairs of token sequences as rows, whatever their lengths."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from genjax.data.buckets import Buckets
from genjax.data.rows import Columns


class Ragged:
    """N sequences behind one another in one array.

    Args:
      sequences: each a 1-D array of integers.
    """

    def __init__(self, sequences: Sequence[np.ndarray], dtype: type = np.int32):
        self.lengths = np.array([len(s) for s in sequences], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.flat = np.concatenate([*sequences, np.zeros(0, np.int32)]).astype(dtype)

    def __call__(self, indices: np.ndarray, width: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """The sequences at `indices` as (B, width) int32, padded, and their lengths (B) int32."""
        slot, lengths = np.arange(width), self.lengths[indices]
        # What is read beyond a sequence's end is replaced: only its place must exist.
        where = np.minimum(self.starts[indices][:, None] + slot, len(self.flat) - 1)
        inside = slot < lengths[:, None]
        return np.where(inside, self.flat[where], pad).astype(np.int32), lengths.astype(np.int32)


class Pairs:
    """Rows `source`, `source_length`, `target`, `target_length`; no sequence is longer than the rows.

    Attributes:
      buckets: lengths, rising, to which the rows of a batch may be cut; empty where all batches are alike.
      sizes: (N) the longer length of each pair.

    Args:
      length: tokens of a row of each side.
      pad: what stands behind a sequence's end.
      index: which of the pairs are rows, in their order; all where it is None.
    """

    memory = True

    def __init__(
        self,
        source: Ragged,
        target: Ragged,
        length: int,
        pad: int,
        buckets: Sequence[int] = (),
        index: np.ndarray | None = None,
    ):
        self.source, self.target, self.length, self.pad = source, target, length, pad
        self.buckets = tuple(buckets)
        self.index = np.arange(len(source.lengths)) if index is None else np.asarray(index, np.int64)
        self.sizes = np.maximum(source.lengths, target.lengths)[self.index]
        self._batches = functools.lru_cache(maxsize=4)(functools.partial(Buckets, self.sizes, self.buckets))

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, indices: np.ndarray, width: int | None = None) -> Columns:
        """The rows at `indices`, each side cut to `width` tokens (at least the longest of these rows)."""
        at, width = self.index[indices], width or self.length
        source, source_length = self.source(at, width, self.pad)
        target, target_length = self.target(at, width, self.pad)
        return {
            "source": source,
            "source_length": source_length,
            "target": target,
            "target_length": target_length,
        }

    def batches(self, batch: int, seed: int, shuffled: bool) -> Buckets:
        """The batches of these rows: see Buckets. The last few plans are kept, for streams of one split."""
        return self._batches(batch, seed, shuffled)

    def select(self, index: np.ndarray) -> Pairs:
        """Some of the rows, in an order of their own."""
        return Pairs(self.source, self.target, self.length, self.pad, self.buckets, self.index[index])
