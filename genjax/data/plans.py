"""Plan batches: which rows of a split form the batch of a given number, as pure functions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from genjax.data.permutation import shuffled

ORDERS = ("shuffled", "lanes", "once")


class Plan(NamedTuple):
    """List the rows of one batch.

    Attributes:
      indices: int64, one row of the split for each row of the batch.
      mask: float32, 0 on the padding rows of the last batch.
      reset: float32, 1 where a row does not continue the previous row of its lane; None unless the order is
        `lanes`.
      details: anything else that `Rows.read` needs for this batch, such as a width. None by default.
    """

    indices: np.ndarray
    mask: np.ndarray
    reset: np.ndarray | None = None
    details: Any = None


class Plans(Protocol):
    """Plan every batch of a stream. Pure: the result depends on the arguments alone."""

    @property
    def epoch(self) -> float:
        """The number of batches that read the data once."""
        ...

    def __call__(self, number: int, part: tuple[int, int], fresh: bool) -> Plan:
        """Return rows [lo, hi) = `part` of the global batch `number`.

        Args:
          number: of the batch, counting skipped ones.
          part: the slice of the batch that this process reads.
          fresh: this batch does not follow the batch before it.
        """
        ...


class Uniform:
    """Plan batches in which any row may stand beside any other.

    shuffled: epochs of n positions, each with every row once. A batch may cross from one epoch to the next.
    lanes: lane b starts at row floor(b * n / batch), reads row after row, and continues at row 0 after the
      last one. Hence n batches read every row exactly `batch` times, and n / batch batches read the data
      once; no row is dropped if n is not a multiple of `batch`. `reset` is 1 at every return to row 0, and
      in all lanes of a batch that is `fresh`.
    once: the rows in order. The last batch is filled with the last row, under mask 0.

    Args:
      n: rows of the split.
      batch: rows of the global batch.
    """

    def __init__(self, n: int, order: str, batch: int, seed: int):
        self.n = n
        self.order = order
        self.batch = batch
        self.seed = seed

    @property
    def epoch(self) -> float:
        """The number of batches that read the data once, possibly a fraction."""
        return self.n / self.batch

    def __call__(self, number: int, part: tuple[int, int], fresh: bool = False) -> Plan:
        """Return rows `part` of the global batch `number`: see `Plans`."""
        here = np.arange(*part, dtype=np.int64)
        ones = np.ones(len(here), np.float32)
        if self.order == "lanes":
            rows = (here * self.n // self.batch + number) % self.n
            return Plan(rows, ones, ((rows == 0) | fresh).astype(np.float32))
        positions = here + number * self.batch
        if self.order == "shuffled":
            return Plan(shuffled(self.n, self.seed, positions), ones)
        return Plan(np.minimum(positions, self.n - 1), (positions < self.n).astype(np.float32))
