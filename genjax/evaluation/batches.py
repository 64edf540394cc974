"""Apply functions to many rows in batches of one size, so that a jitted function compiles once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Columns = dict[str, np.ndarray]


def batches(x: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (rows, number that count): batches of `size` rows, the last padded with its last row."""
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        count = len(rows)
        if count < size:
            rows = np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)])
        yield rows, count


def mapped(
    function: Callable[[np.ndarray], Any],
    x: np.ndarray,
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return `function` of the rows of x, evaluated in batches of `size`; progress gets (rows done, rows)."""
    out = []
    done = 0
    for rows, count in batches(x, size):
        out.append(np.asarray(function(rows))[:count])
        done += count
        if progress:
            progress(done, len(x))
    return np.concatenate(out)
