"""Batches as a pure function of (seed, batch index, global row), in a named order, prefetched by Grain."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from genjax.data.buckets import Buckets
from genjax.data.config import Order
from genjax.data.pairs import Pairs
from genjax.data.permutation import shuffled
from genjax.data.rows import Columns, Rows, Zipped
from genjax.errors import ConfigError, nearest

_ENDLESS = 1 << 40
_CHUNK_BYTES = 4 << 20
_STRIDE = 1 << 32  # between the seeds of zipped sources, far from any that a user would choose


class Plan(NamedTuple):
    """Which rows make a batch.

    Attributes:
      indices: int64, one row of the split for each row of the batch.
      mask: float32, 0 on the padding rows of the last batch.
      reset: float32, 1 where a row does not continue what the lane read before; None out of lanes.
      width: the length to which these rows are cut, where rows have buckets; else None.
    """

    indices: np.ndarray
    mask: np.ndarray
    reset: np.ndarray | None = None
    width: int | None = None


def plan(
    order: str, n: int, batch: int, seed: int, index: int, part: tuple[int, int], fresh: bool = False
) -> Plan:
    """Rows [lo, hi) = `part` of the global batch number `index`, of `batch` of the n rows of a split.

    shuffled: epochs of n positions, each with every row once; a batch may cross from one to the next.
    lanes: lane b starts at row floor(b*n/batch) and reads on, row after row, round the end of the data:
      n batches read every row exactly `batch` times, and n/batch batches read the data once, with no row
      left out where n is not a multiple. `reset` marks every return to row 0, and all lanes where
      `fresh` says that this batch does not follow the one before it.
    once: the rows in order; the last batch is filled up with the last row under mask 0.
    """
    here = np.arange(*part, dtype=np.int64)
    ones = np.ones(len(here), np.float32)
    if order == "lanes":
        rows = (here * n // batch + index) % n
        return Plan(rows, ones, ((rows == 0) | fresh).astype(np.float32))
    positions = here + index * batch
    if order == "shuffled":
        return Plan(shuffled(n, seed, positions), ones)
    return Plan(np.minimum(positions, n - 1), (positions < n).astype(np.float32))


class Stream:
    """The batches of a split in one order. `stream[i]` is the i-th; iterating prefetches in background.

    A batch is a dict of numpy arrays, B-first: the split's elements, `mask` (float32, 0 on padding rows),
    and in lanes `reset` (float32, 1 where a carry from the previous batch must be zeroed).
    Rows with buckets (genjax.data.pairs) come in batches of one bucket, cut to its length: see
    genjax.data.buckets.
    Nothing is remembered between batches: stream[i] is the same whenever, and on whichever machine, it
    is asked for, and resuming at any i needs no saved iterator.

    Attributes:
      start: where iterating begins.
      batch: B of the global batch; each of `process[1]` hosts has B / process[1] rows of it.
      steps_per_epoch: batches that read the data once (a fraction, in endless orders).
    """

    def __init__(
        self,
        rows: Rows,
        order: Order,
        batch: int,
        seed: int = 0,
        start: int = 0,
        process: tuple[int, int] = (0, 1),
        skip: Collection[int] = (),
    ):
        self.rows, self.order, self.batch, self.seed, self.start = rows, order, batch, seed, start
        self.process, self.skip = process, tuple(sorted(set(skip)))
        _check(rows, order, batch, start, process)
        size = batch // process[1]
        self._part = (process[0] * size, (process[0] + 1) * size)
        self._buckets: Buckets | None = None
        if isinstance(rows, Pairs) and rows.buckets:
            self._buckets = rows.batches(batch, seed, order == "shuffled")

    @property
    def steps_per_epoch(self) -> float:
        if self._buckets is not None and self.endless:
            return float(self._buckets.batches)
        return float(len(self)) if self.order == "once" else len(self.rows) / self.batch

    @property
    def endless(self) -> bool:
        return self.order != "once"

    def __len__(self) -> int:
        """How many batches there are, the skipped ones not counted; TypeError where they never end."""
        if self.endless:
            raise TypeError(f"a stream in the order {self.order!r} has no end: see steps_per_epoch")
        total = -(-len(self.rows) // self.batch)
        return total - sum(s < total for s in self.skip)

    def __bool__(self) -> bool:
        return True

    def number(self, index: int) -> int:
        """The number, skipped batches counted, of the index-th batch: what a later `skip` may name."""
        for s in self.skip:
            if s > index:
                break
            index += 1
        return index

    def plan(self, index: int, rows: Rows | None = None, seed: int | None = None) -> Plan:
        """Which rows of the split this host has in the index-th batch, the skipped ones left out."""
        if index < 0 or (not self.endless and index >= len(self)):
            raise IndexError(f"batch {index} of {'an endless stream' if self.endless else len(self)}")
        number = self.number(index)
        if self._buckets is not None:
            indices, mask, width = self._buckets(number, self._part)
            return Plan(indices, mask, width=width)
        fresh = index == 0 or self.number(index - 1) != number - 1
        n, seed = len(rows or self.rows), self.seed if seed is None else seed
        return plan(self.order, n, self.batch, seed, number, self._part, fresh)

    def __getitem__(self, index: int) -> Columns:
        p = self.plan(int(index))
        batch = {**self._read(int(index), p), "mask": p.mask}
        return batch if p.reset is None else {**batch, "reset": p.reset}

    def _read(self, index: int, p: Plan) -> Columns:
        if p.width is not None and isinstance(self.rows, Pairs):
            return self.rows(p.indices, p.width)
        if self.order != "shuffled" or not isinstance(self.rows, Zipped):
            return self.rows(p.indices)
        # A shuffle of its own for each domain: what stands beside what is never the same twice.
        parts = enumerate(self.rows.parts.items())
        return self.rows.join(
            {s: self.plan(index, r, self.seed + k * _STRIDE).indices for k, (s, r) in parts}
        )

    def __iter__(self) -> Iterator[Columns]:
        """The batches from `start` on. Close the iterator (or drop it) to stop its threads."""
        left = (_ENDLESS if self.endless else len(self)) - self.start
        return _prefetched(self, self.start, left) if left > 0 else iter(())


def _check(rows: Rows, order: str, batch: int, start: int, process: tuple[int, int]) -> None:
    orders = ("shuffled", "lanes", "once")
    if order not in orders:
        raise ConfigError(f"unknown order {order!r}{nearest(order, orders)}", f"one of {', '.join(orders)}")
    index, count = process
    if batch < 1 or start < 0 or not 0 <= index < count:
        raise ConfigError(f"no such stream: batch={batch}, start={start}, process={process}")
    if batch % count:
        raise ConfigError(
            f"a batch of {batch} rows cannot be divided among {count} processes",
            f"set data.batch to a multiple of {count}",
        )
    if order == "lanes" and isinstance(rows, Pairs) and rows.buckets:
        raise ConfigError(
            "lanes of contiguous text have no buckets", "data.order='shuffled', or data.buckets=()"
        )
    if order == "lanes" and len(rows) < batch:
        raise ConfigError(
            f"{len(rows)} rows are too few for {batch} lanes of contiguous text",
            "a smaller data.batch, a shorter data.length, or more text",
        )


class _Chunks:
    """Random access to runs of `size` batches: Grain's cost for an element is shared by a run of them."""

    def __init__(self, stream: Stream, start: int, left: int, size: int):
        self.stream, self.start, self.left, self.size = stream, start, left, size

    def __len__(self) -> int:
        return -(-self.left // self.size)

    def __getitem__(self, index: Any) -> list[Columns]:
        first = int(index) * self.size
        count = min(self.size, self.left - first)
        return [self.stream[self.start + first + k] for k in range(count)]


def _prefetched(stream: Stream, start: int, left: int) -> Iterator[Columns]:
    import os

    import grain

    if stream.rows.memory:
        size = sum(v.nbytes for v in stream[start].values())
        chunk = int(np.clip(_CHUNK_BYTES // max(size, 1), 1, 16))
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    else:  # reading and decoding release the interpreter's lock: as many threads as there are cores
        chunk, threads = 1, min(max(os.cpu_count() or 1, 2), 16)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    chunks = grain.MapDataset.source(_Chunks(stream, start, left, chunk)).to_iter_dataset(options)
    iterator = iter(chunks)
    try:
        for batches in iterator:
            yield from batches
    finally:
        iterator.close()
