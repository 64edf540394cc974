"""Place batches on the devices ahead of the step, with the phases that are due."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from genjax.core import Model
from genjax.training import step

PREFETCH = 2  # calls whose batches are on the devices ahead of the step

Batches = list[dict[str, np.ndarray]]


def feed(
    stream: Any, put: Callable[[Batches], Any], model: Model, start: int, stop: int, per_call: int
) -> Iterator[tuple[Any, tuple[step.Phases, ...]]]:
    """Yield (batch on the devices, due phases) of each call from step `start` on.

    Args:
      stream: yields the batches from `start` on.
      put: batches of one call -> arrays on the devices.
      stop: the last step; the iterator ends earlier if the data does.
      per_call: steps of one call.
    """
    rows = iter(stream)
    queue: deque[tuple[Any, tuple[step.Phases, ...]]] = deque()
    n = start
    while True:
        while len(queue) <= PREFETCH and n < stop:
            batches = list(itertools.islice(rows, min(per_call - n % per_call, stop - n)))
            if not batches:
                stop = n
                break
            for part in _alike(batches):
                phases = tuple(step.due(model, n + i) for i in range(len(part)))
                queue.append((put(part), phases))
                n += len(part)
        if not queue:
            return
        yield queue.popleft()


def _alike(batches: Batches) -> list[Batches]:
    """Return the batches as one call, or as calls of one batch if their shapes differ (rows in buckets).

    Cutting at each change of shape would need a program for every number of steps; this needs two per shape.
    """
    forms = {tuple(x.shape for x in b.values()) for b in batches}
    return [batches] if len(forms) == 1 else [[b] for b in batches]


def first_rows(split: Any, most: int, ways: int, **how: Any) -> dict[str, np.ndarray]:
    """Return this process's part of the first rows of the shuffled split, for `Model.fit`.

    Args:
      most: rows in all, if there are as many.
      ways: the number of rows is a multiple of it, and at least it.
      how: seed and process of the stream.
    """
    num = max(min(most, len(split)) // ways, 1) * ways
    return split.stream(order="shuffled", batch=num, **how)[0]
