"""Where rows come from: anything with a length and vectorised random access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

Columns = dict[str, np.ndarray]
_CACHED = 4 << 30


class Rows(Protocol):
    """N rows. `memory` says that reading them costs microseconds, so that threads would only get in
    each other's way."""

    memory: bool

    def __len__(self) -> int: ...

    def __call__(self, indices: np.ndarray) -> Columns:
        """The rows at `indices` (int64, B): named arrays, every one B-first and newly made."""
        ...


@runtime_checkable
class Selectable(Rows, Protocol):
    """Rows that keep more than their columns (lengths, buckets) when some of them are chosen."""

    def select(self, index: np.ndarray) -> Rows:
        """Some of the rows, in an order of their own."""
        ...


class Arrays:
    """Rows held in memory, or in files mapped into it, one array a column."""

    def __init__(self, columns: Mapping[str, np.ndarray]):
        mapped = sum(v.nbytes for v in columns.values() if isinstance(v, np.memmap))
        # What the page cache may not hold must be waited for, and then threads do help.
        self.memory = mapped <= _CACHED
        self.columns = {k: np.ascontiguousarray(v) for k, v in columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __call__(self, indices: np.ndarray) -> Columns:
        return {k: v.take(indices, axis=0) for k, v in self.columns.items()}


class Windows:
    """Running text as rows of length + 1 tokens: row r is tokens[r*length : (r+1)*length + 1].

    Neighbours share one token, so every token but the first is predicted exactly once; what is left of
    the text after the last whole window is dropped.

    Args:
      tokens: N integers, in any dtype that holds them.
      length: T, tokens predicted in a row.
      starts: where documents begin, rising from 0: rows then have `segment`, each token's document from 1 on.
    """

    memory = True

    def __init__(self, tokens: np.ndarray, length: int, starts: np.ndarray | None = None):
        self.tokens, self.length, self.starts = tokens, length, starts
        self._window = np.arange(length + 1)

    def __len__(self) -> int:
        return max(len(self.tokens) - 1, 0) // self.length

    def __call__(self, indices: np.ndarray) -> Columns:
        where = indices[:, None] * self.length + self._window
        rows = {"tokens": self.tokens.take(where).astype(np.int32)}
        if self.starts is not None:
            rows["segment"] = np.searchsorted(self.starts, where, side="right").astype(np.int32)
        return rows


def first(rows: Rows, limit: int | None) -> Rows:
    """The first `limit` of some rows; all of them where it is None."""
    if limit is None:
        return rows
    if isinstance(rows, Zipped):
        return Zipped({letter: first(part, limit) for letter, part in rows.parts.items()})
    if isinstance(rows, Selectable):
        return rows.select(np.arange(min(limit, len(rows))))
    return First(rows, limit)


class First:
    """The first `limit` of some rows."""

    def __init__(self, rows: Rows, limit: int):
        self.rows, self.limit, self.memory = rows, min(limit, len(rows)), rows.memory

    def __len__(self) -> int:
        return self.limit

    def __call__(self, indices: np.ndarray) -> Columns:
        return self.rows(indices)


class Subset:
    """Some rows of others, in an order of their own."""

    def __init__(self, rows: Rows, index: np.ndarray):
        self.rows, self.index, self.memory = rows, np.asarray(index, np.int64), rows.memory

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, indices: np.ndarray) -> Columns:
        return self.rows(self.index[indices])


class Zipped:
    """Rows of several sources side by side, under their letters: `image_a`, `image_b`.

    As long as the longest; a shorter one begins again. Streams give each source an order of its own.
    """

    def __init__(self, parts: Mapping[str, Rows]):
        self.parts = dict(parts)
        self.memory = all(p.memory for p in self.parts.values())

    def __len__(self) -> int:
        sizes = [len(p) for p in self.parts.values()]
        return max(sizes) if min(sizes) else 0

    def __call__(self, indices: np.ndarray) -> Columns:
        return self.join({letter: indices % len(part) for letter, part in self.parts.items()})

    def join(self, indices: Mapping[str, np.ndarray]) -> Columns:
        """Each source's rows at its own indices."""
        return {f"{k}_{s}": v for s, part in self.parts.items() for k, v in part(indices[s]).items()}
