"""Stream batches as a pure function of (seed, batch index, global row), prefetched by Grain."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from genjax.data.config import Order
from genjax.data.plans import ORDERS, Plan
from genjax.data.rows import Columns, Rows
from genjax.errors import ConfigError, nearest

_ENDLESS = 1 << 40
_CHUNK_BYTES = 4 << 20


class Stream:
    """Read the batches of a split in one order. `stream[i]` is batch i; iteration prefetches in background.

    A batch is a dict of NumPy arrays, batch-first: the elements of the split, `mask` (float32, 0 on padding
    rows), and in lanes `reset` (float32, 1 where a carry from the previous batch must be zeroed). Rows with
    buckets come in batches of one bucket, cut to its length: see genjax.data.buckets.

    Nothing is remembered between batches. stream[i] is the same at any time and on any machine, and a run
    can resume at any i without a saved iterator.

    Attributes:
      start: the batch at which iteration begins.
      batch: B of the global batch; each of `process[1]` processes reads B / process[1] rows of it.
      steps_per_epoch: batches that read the data once (a fraction, in endless orders).

    Raises:
      ConfigError: an unknown order, a batch that the processes cannot share, or rows that cannot be read in
        this order.
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
        _check(rows, order, batch, start, process)
        self.rows = rows
        self.order = order
        self.batch = batch
        self.seed = seed
        self.start = start
        self.process = process
        self.skip = tuple(sorted(set(skip)))
        size = batch // process[1]
        self._part = (process[0] * size, (process[0] + 1) * size)
        self._plans = rows.plans(order, batch, seed)

    @property
    def steps_per_epoch(self) -> float:
        return self._plans.epoch if self.endless else float(len(self))

    @property
    def endless(self) -> bool:
        """The order repeats the data without end."""
        return self.order != "once"

    def __len__(self) -> int:
        """Return the number of batches, without the skipped ones.

        Raises:
          TypeError: the stream is endless.
        """
        if self.endless:
            raise TypeError(f"a stream in the order {self.order!r} has no end: see steps_per_epoch")
        total = -(-len(self.rows) // self.batch)
        return total - sum(s < total for s in self.skip)

    def __bool__(self) -> bool:
        # Without this, truth would call __len__, which raises for an endless stream.
        return True

    def number(self, index: int) -> int:
        """Return the number of the index-th batch, counting skipped ones: the number that `skip` takes."""
        for s in self.skip:
            if s > index:
                break
            index += 1
        return index

    def plan(self, index: int) -> Plan:
        """Return the rows of the split that this process reads in the index-th batch.

        Raises:
          IndexError: there is no such batch.
        """
        if index < 0 or (not self.endless and index >= len(self)):
            raise IndexError(f"batch {index} of {'an endless stream' if self.endless else len(self)}")
        number = self.number(index)
        fresh = index == 0 or self.number(index - 1) != number - 1
        return self._plans(number, self._part, fresh)

    def __getitem__(self, index: int) -> Columns:
        p = self.plan(int(index))
        batch = {**self.rows.read(p), "mask": p.mask}
        return batch if p.reset is None else {**batch, "reset": p.reset}

    def __iter__(self) -> Iterator[Columns]:
        """Iterate over the batches from `start`. Close the iterator (or drop it) to stop its threads."""
        left = (_ENDLESS if self.endless else len(self)) - self.start
        return _prefetched(self, self.start, left) if left > 0 else iter(())


def _check(rows: Rows, order: str, batch: int, start: int, process: tuple[int, int]) -> None:
    if order not in ORDERS:
        raise ConfigError(
            f"unknown order {order!r}{nearest(order, ORDERS)}", f"use one of {', '.join(ORDERS)}"
        )
    index, count = process
    if batch < 1 or start < 0 or not 0 <= index < count:
        raise ConfigError(f"no such stream: batch={batch}, start={start}, process={process}")
    if batch % count:
        raise ConfigError(
            f"a batch of {batch} rows cannot be divided among {count} processes",
            f"set data.batch to a multiple of {count}",
        )
    if order == "lanes" and len(rows) < batch:
        raise ConfigError(
            f"{len(rows)} rows are too few for {batch} lanes of contiguous text",
            "use a smaller data.batch, a shorter data.length, or more text",
        )


class _Chunks:
    """Give random access to runs of `size` batches, which share Grain's cost for one element."""

    def __init__(self, stream: Stream, start: int, left: int, size: int):
        self.stream = stream
        self.start = start
        self.left = left
        self.size = size

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
    else:
        # Reading and decoding release the interpreter lock: use as many threads as there are cores.
        chunk = 1
        threads = min(max(os.cpu_count() or 1, 2), 16)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    chunks = grain.MapDataset.source(_Chunks(stream, start, left, chunk)).to_iter_dataset(options)
    iterator = iter(chunks)
    try:
        for batches in iterator:
            yield from batches
    finally:
        iterator.close()
