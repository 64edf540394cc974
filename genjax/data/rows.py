"""Give random access to rows: the base class of every source of rows, and the common sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from genjax.data.plans import Plan, Plans, Uniform

Columns = dict[str, np.ndarray]
_CACHED = 4 << 30
"""Bytes of mapped files that the page cache is assumed to hold."""
_STRIDE = 1 << 32
"""Between the seeds of zipped sources; far from any seed that a user would choose."""


class Rows(ABC):
    """Give random access to N rows.

    A source implements `__len__` and `__call__`. One whose rows cannot be batched arbitrarily (rows of
    several lengths, several sources side by side) overrides the other methods as well.

    Attributes:
      memory: reading a row costs microseconds, so that several reader threads would only contend.
      bounds: (P + 1,) the first row of each piece and the number of rows, if rows are parts of P pieces, in
        order: see data.pieces. None otherwise.
    """

    memory: bool = True
    bounds: np.ndarray | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __call__(self, indices: np.ndarray) -> Columns:
        """Return the rows at `indices` (int64, B): new arrays of shape (B, ...), by name."""

    @property
    def distinct(self) -> int:
        """Return how many of the first rows do not repeat an element of another row."""
        return len(self)

    def select(self, index: np.ndarray) -> Rows:
        """Return the rows at `index`, in that order."""
        return Subset(self, index)

    def first(self, limit: int) -> Rows:
        """Return the first `limit` rows, or all if there are fewer."""
        return self.select(np.arange(min(limit, len(self))))

    def overlapping(self) -> Rows:
        """Return the rows in which a model without a state reads whole pieces; `self` without `bounds`."""
        return self

    def plans(self, order: str, batch: int, seed: int) -> Plans:
        """Return the plan of every batch of a stream over these rows.

        Args:
          order: shuffled, lanes or once.
          batch: rows of the global batch.

        Raises:
          ConfigError: the rows cannot be read in this order.
        """
        return Uniform(len(self), order, batch, seed)

    def read(self, plan: Plan) -> Columns:
        """Return the rows of a batch that `plans` planned."""
        return self(plan.indices)

    def describe(self) -> list[tuple[str, str]]:
        """Return lines (name, value) for a description of the dataset."""
        return []


class Arrays(Rows):
    """Hold rows in memory, or in memory-mapped files: one array for each column."""

    def __init__(self, columns: Mapping[str, np.ndarray]):
        mapped = sum(v.nbytes for v in columns.values() if isinstance(v, np.memmap))
        # Rows beyond the page cache wait for the disk, where several reader threads do help.
        self.memory = mapped <= _CACHED
        self.columns = {k: np.ascontiguousarray(v) for k, v in columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __call__(self, indices: np.ndarray) -> Columns:
        return {k: v.take(indices, axis=0) for k, v in self.columns.items()}

    def contents(self) -> list[np.ndarray]:
        """Return the arrays that determine the rows, for a digest."""
        return list(self.columns.values())


class Windows(Rows):
    """Present running text as rows of length + 1 tokens: row r is tokens[r*length : (r+1)*length + 1].

    Neighbouring rows share one token, so that every token but the first is predicted exactly once. Tokens
    after the last whole window are dropped.

    Args:
      tokens: N integers, in any dtype that holds them.
      length: T, the tokens predicted in a row.
      starts: ascending positions from 0 at which documents begin. Rows then have a second column: the
        number of each token's document, counted from 1.
      names: the names of the two columns.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        length: int,
        starts: np.ndarray | None = None,
        names: tuple[str, str] = ("tokens", "segment"),
    ):
        self.tokens = tokens
        self.length = length
        self.starts = starts
        self.names = names
        self._window = np.arange(length + 1)

    def __len__(self) -> int:
        return max(len(self.tokens) - 1, 0) // self.length

    def __call__(self, indices: np.ndarray) -> Columns:
        where = indices[:, None] * self.length + self._window
        columns = [self.tokens.take(where).astype(np.int32)]
        if self.starts is not None:
            columns.append(np.searchsorted(self.starts, where, side="right").astype(np.int32))
        return dict(zip(self.names, columns, strict=False))

    def contents(self) -> list[np.ndarray]:
        """Return the arrays that determine the rows, for a digest."""
        return [self.tokens] if self.starts is None else [self.tokens, self.starts]


def first(rows: Rows, limit: int | None) -> Rows:
    """Return the first `limit` rows; all of them if it is None."""
    return rows if limit is None else rows.first(limit)


class Subset(Rows):
    """Select rows of another source.

    Args:
      index: the selected rows, in their new order.
    """

    def __init__(self, rows: Rows, index: np.ndarray):
        self.rows = rows
        self.index = np.asarray(index, np.int64)
        self.memory = rows.memory

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, indices: np.ndarray) -> Columns:
        return self.rows(self.index[indices])


class Zipped(Rows):
    """Join rows of several sources side by side: the columns get the suffixes `_a`, `_b` ...

    There are as many rows as in the longest source; a shorter one starts again at its first row. A shuffled
    stream shuffles each source by itself, so that the pairing differs in every epoch.

    Args:
      parts: {letter: rows}.
      suffix: False if the columns of the sources have different names, which are then kept.
    """

    def __init__(self, parts: Mapping[str, Rows], suffix: bool = True):
        self.parts = dict(parts)
        self.suffix = suffix
        self.memory = all(p.memory for p in self.parts.values())

    def __len__(self) -> int:
        sizes = [len(p) for p in self.parts.values()]
        return max(sizes) if min(sizes) else 0

    @property
    def distinct(self) -> int:
        """Return the number of rows before a source starts again: the length of the shortest one."""
        return min((len(p) for p in self.parts.values()), default=0)

    def __call__(self, indices: np.ndarray) -> Columns:
        return self.join({letter: indices % len(part) for letter, part in self.parts.items()})

    def join(self, indices: Mapping[str, np.ndarray]) -> Columns:
        """Return the rows of each source at its own indices."""
        columns = {s: part(indices[s]) for s, part in self.parts.items()}
        return {f"{k}_{s}" if self.suffix else k: v for s, part in columns.items() for k, v in part.items()}

    def first(self, limit: int) -> Rows:
        """Return the first `limit` rows of every source, still shuffled apart from each other."""
        return Zipped({letter: part.first(limit) for letter, part in self.parts.items()}, self.suffix)

    def plans(self, order: str, batch: int, seed: int) -> Plans:
        """Return plans in which each source of a shuffled stream has an order of its own."""
        return _Apart(self, order, batch, seed) if order == "shuffled" else super().plans(order, batch, seed)

    def read(self, plan: Plan) -> Columns:
        """Return the rows of each source at its own indices, if the plan has them."""
        return self(plan.indices) if plan.details is None else self.join(plan.details)


class _Apart(Uniform):
    """Plan shuffled batches of zipped rows: `details` is {letter: indices}."""

    def __init__(self, rows: Zipped, order: str, batch: int, seed: int):
        super().__init__(len(rows), order, batch, seed)
        self.parts = {
            letter: Uniform(len(part), order, batch, seed + number * _STRIDE)
            for number, (letter, part) in enumerate(rows.parts.items())
        }

    def __call__(self, number: int, part: tuple[int, int], fresh: bool = False) -> Plan:
        indices = {letter: plans(number, part).indices for letter, plans in self.parts.items()}
        return super().__call__(number, part, fresh)._replace(details=indices)
