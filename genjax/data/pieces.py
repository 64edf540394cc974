"""Present pieces of any lengths as rows of one length, from which whole pieces can be read again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data.rows import Columns, Rows


class Pieces(Rows):
    """Hold P pieces (sequences of items) as rows of length + 1 items.

    Each piece begins a new row and continues in the next ones. Row k of a piece begins at its item
    k * stride; the last row is padded with 0. Every item but the first of a piece counts as the target of
    exactly one row.

    Columns: the items, under `name`; `segment` (length + 1, int32), which numbers the piece from 1 and is 0
    on padding. If rows overlap there is `token_mask` too (length, float32): 0 on the targets of earlier rows.

    Args:
      pieces: arrays (n, ...), each of at least 2 items.
      length: targets of a row.
      name: of the column of items.
      stride: items from the beginning of a row to that of the next; None for `length`, rows side by side.

    Attributes:
      bounds: (P + 1,) the first row of each piece, and the number of rows.
    """

    def __init__(
        self,
        pieces: Sequence[np.ndarray],
        length: int,
        name: str = "roll",
        stride: int | None = None,
    ):
        self.items = np.concatenate(list(pieces)) if len(pieces) else np.zeros((0,), np.uint8)
        self._set([len(p) for p in pieces], length, name, stride or length)

    def _set(self, sizes: Sequence[int], length: int, name: str, stride: int) -> None:
        """Divide the items into rows."""
        self.sizes = np.asarray(sizes, np.int64)
        self.length = length
        self.name = name
        self.stride = stride
        # A row is needed as long as targets are left: items 1 .. length are those of the first row.
        counts = 1 + np.maximum(0, -(-(self.sizes - 1 - length) // stride))
        self.bounds = np.concatenate([[0], np.cumsum(counts)])
        self._piece = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum(self.sizes) - self.sizes
        within = np.arange(len(self._piece)) - self.bounds[self._piece]
        self._first = within == 0
        self._begin = starts[self._piece] + within * stride
        self._end = (starts + self.sizes)[self._piece]
        self._slot = np.arange(length + 1)

    def __len__(self) -> int:
        return len(self._piece)

    def __call__(self, indices: np.ndarray) -> Columns:
        where = self._begin[indices][:, None] + self._slot
        inside = where < self._end[indices][:, None]
        # Items beyond the end are replaced below, so the index only has to be valid.
        items = self.items.take(np.minimum(where, len(self.items) - 1), axis=0)
        items[~inside] = 0
        segment = np.where(inside, self._piece[indices][:, None] + 1, 0).astype(np.int32)
        columns = {self.name: items, "segment": segment}
        if self.stride == self.length:
            return columns
        fresh = self._slot[1:] > self.length - self.stride
        counted = fresh[None] | self._first[indices][:, None]
        return {**columns, "token_mask": counted.astype(np.float32)}

    def first(self, limit: int) -> Rows:
        """Return the first `limit` rows; the last piece may be cut at the end of a row."""
        rows = min(limit, len(self))
        kept = int(self._piece[rows - 1]) + 1
        sizes = self.sizes[:kept].copy()
        cut = self._begin[rows - 1] + self.length + 1 - (np.cumsum(sizes) - sizes)[-1]
        sizes[-1] = min(sizes[-1], cut)
        return self._replaced(self.items[: sizes.sum()], sizes, self.stride)

    def overlapping(self) -> Pieces:
        """Return rows of which each but the first of a piece begins half a row after the row before it.

        A model that reads each row by itself then knows at least half a row of items before every target.
        """
        return self._replaced(self.items, self.sizes, max(1, self.length // 2))

    def _replaced(self, items: np.ndarray, sizes: np.ndarray, stride: int) -> Pieces:
        """Return other rows of the same items, without a copy."""
        other = object.__new__(Pieces)
        other.items = items
        other._set(sizes.tolist(), self.length, self.name, stride)
        return other

    def contents(self) -> list[np.ndarray]:
        """Return the arrays that determine the rows, for a digest."""
        return [self.items, self.sizes]

    def describe(self) -> list[tuple[str, str]]:
        """Return the number of pieces and their lengths."""
        shortest, longest = self.sizes.min(), self.sizes.max()
        return [("pieces", f"{len(self.sizes):,} to train, of {shortest:,} to {longest:,} items")]
