"""Read the rows of a split so that whole pieces are scored, whatever the length of a row.

A model with a carry reads a piece row by row, from a zero carry: exactly as if the piece were one row. Any
other model reads rows that overlap by half (`Pieces.overlapping`): it knows at least half a row of the piece
before every item that counts, or all of the piece that lies before it. Every item but a piece's first counts
once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np

from genjax.core import Batch
from genjax.data.rows import Rows


def source_of(split: Any) -> Rows | None:
    """Return the rows of a split if they are parts of pieces, else None."""
    source = getattr(split, "source", None)
    return source if isinstance(source, Rows) and source.bounds is not None else None


def rows_of(split_rows: Rows, carried: bool) -> Rows:
    """Return the rows in which the pieces of a split are read; the rows need `bounds`."""
    return split_rows if carried else split_rows.overlapping()


def pieces_of(rows: Rows) -> np.ndarray:
    """Return the number of each row's piece, from 0: (rows,)."""
    assert rows.bounds is not None
    return np.repeat(np.arange(len(rows.bounds) - 1), np.diff(rows.bounds))


def batches(rows: Rows, batch: int, carried: bool) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield (batch, indices of its rows) until every row was read once; padding has mask 0.

    Args:
      carried: lane b of a batch goes on with lane b of the batch before it, or begins a piece (`reset` is 1).
    """
    for index in lanes(rows, batch) if carried else _in_order(len(rows), batch):
        live = index >= 0
        index = np.maximum(index, 0)
        found: Batch = {**rows(index), "mask": live.astype(np.float32)}
        if carried:
            assert rows.bounds is not None
            found["reset"] = np.isin(index, rows.bounds).astype(np.float32)
        yield found, index


def lanes(rows: Rows, batch: int) -> np.ndarray:
    """Return (steps, lanes) indices of rows, -1 where a lane has ended: whole pieces, one after another.

    There are at most `batch` lanes. The longest pieces come first, each in the lane that is shortest so far.
    """
    assert rows.bounds is not None
    sizes = np.diff(rows.bounds)
    heap = [(0, lane) for lane in range(min(batch, len(sizes)))]
    found: list[list[int]] = [[] for _ in heap]
    for piece in sorted(range(len(sizes)), key=lambda p: (-sizes[p], p)):
        size, lane = heapq.heappop(heap)
        found[lane] += range(rows.bounds[piece], rows.bounds[piece + 1])
        heapq.heappush(heap, (size + int(sizes[piece]), lane))
    out = np.full((max(map(len, found)), len(found)), -1, np.int64)
    for lane, indices in enumerate(found):
        out[: len(indices), lane] = indices
    return out


def _in_order(count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield the indices 0 .. count - 1 in batches of one size, the last filled with -1."""
    for first in range(0, count, batch):
        index = first + np.arange(batch)
        yield np.where(index < count, index, -1)
