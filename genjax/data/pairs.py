"""Hold pairs of token sequences of any lengths as rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from genjax.data.buckets import BucketPlans, Buckets
from genjax.data.plans import Plan, Plans
from genjax.data.rows import Columns, Rows
from genjax.errors import ConfigError


class Ragged:
    """Store N sequences one after another in one array.

    Args:
      sequences: 1-D arrays of integers.
      dtype: of the stored integers.
    """

    def __init__(self, sequences: Sequence[np.ndarray], dtype: type = np.int32):
        self.lengths = np.array([len(s) for s in sequences], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.flat = np.concatenate([*sequences, np.zeros(0, np.int32)]).astype(dtype)

    def __call__(self, indices: np.ndarray, width: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequences at `indices` as (B, width) int32, padded, and their lengths (B,) int32."""
        slot = np.arange(width)
        lengths = self.lengths[indices]
        # Values read beyond the end of a sequence are replaced below, so the index only has to be valid.
        where = np.minimum(self.starts[indices][:, None] + slot, len(self.flat) - 1)
        inside = slot < lengths[:, None]
        return np.where(inside, self.flat[where], pad).astype(np.int32), lengths.astype(np.int32)


class Pairs(Rows):
    """Present pairs as rows `source`, `source_length`, `target`, `target_length`.

    Attributes:
      buckets: ascending lengths to which the rows of a batch may be cut; empty if all batches have `length`.
      sizes: (N,) the greater length of each pair.

    Args:
      length: tokens of a row on each side; no sequence is longer.
      pad: the token after the end of a sequence.
      index: the pairs that are rows, in order; all pairs if it is None.
    """

    def __init__(
        self,
        source: Ragged,
        target: Ragged,
        length: int,
        pad: int,
        buckets: Sequence[int] = (),
        index: np.ndarray | None = None,
    ):
        self.source = source
        self.target = target
        self.length = length
        self.pad = pad
        self.buckets = tuple(buckets)
        self.index = np.arange(len(source.lengths)) if index is None else np.asarray(index, np.int64)
        self.sizes = np.maximum(source.lengths, target.lengths)[self.index]
        # Several streams of one split share the epochs of the last few plans.
        self._batches = functools.lru_cache(maxsize=4)(functools.partial(Buckets, self.sizes, self.buckets))

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, indices: np.ndarray, width: int | None = None) -> Columns:
        """Return the rows at `indices`, each side cut to `width` tokens (at least the longest of them)."""
        at = self.index[indices]
        width = width or self.length
        source, source_length = self.source(at, width, self.pad)
        target, target_length = self.target(at, width, self.pad)
        return {
            "source": source,
            "source_length": source_length,
            "target": target,
            "target_length": target_length,
        }

    def select(self, index: np.ndarray) -> Pairs:
        """Return the rows at `index`, in that order, with the same buckets."""
        return Pairs(self.source, self.target, self.length, self.pad, self.buckets, self.index[index])

    def plans(self, order: str, batch: int, seed: int) -> Plans:
        """Return plans of batches of one bucket each, if there are buckets.

        Raises:
          ConfigError: lanes of rows with buckets.
        """
        if not self.buckets:
            return super().plans(order, batch, seed)
        if order == "lanes":
            raise ConfigError(
                "rows with buckets cannot be read in lanes of contiguous text",
                "set data.order='shuffled' or data.buckets=()",
            )
        return BucketPlans(self._batches(batch, seed, order == "shuffled"))

    def read(self, plan: Plan) -> Columns:
        """Return the rows of a batch, cut to the width of its bucket."""
        return self(plan.indices, plan.details)

    def describe(self) -> list[tuple[str, str]]:
        """Return the number of pairs in each bucket."""
        if not self.buckets:
            return []
        counts = np.bincount(np.searchsorted(self.buckets, self.sizes), minlength=len(self.buckets))
        counted = (f"{b}: {c:,}" for b, c in zip(self.buckets, counts, strict=True))
        return [("buckets", "pairs of at most so many tokens: " + "  ".join(counted))]
