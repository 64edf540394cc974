"""Times alternatives side by side in one process, so that what the machine does meanwhile hits all alike.

`compare({"jax": thunk, "torch": thunk})` runs short bursts of each in turn, many rounds, and reports the
median and the fastest burst of each, and the median over rounds of its ratio to the last-named one: the two
members of a ratio were measured within the same second.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

THREADS = 2
# OpenMP threads (torch) otherwise spin for a while after their work and take the other library's cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))


class Row(NamedTuple):
    """One alternative's timing: milliseconds a call, and its time over the reference's, by rounds."""

    name: str
    median_ms: float
    best_ms: float
    ratio: float
    best_ratio: float


def torch_threads(threads: int = THREADS) -> None:
    """Gives torch as many threads as XLA has cores here: call it before the first torch operation."""
    import torch

    torch.set_num_threads(threads)


def wait(x: Any) -> Any:
    """`x`, once every jax array in it has been computed; anything else is taken as ready (torch on CPU)."""
    import jax

    return jax.block_until_ready(x)


def compare(
    thunks: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 10,
    burst: int = 5,
    warmup: int = 3,
    reference: str | None = None,
) -> list[Row]:
    """The interleaved timing of `thunks`.

    Args:
      thunks: each does one step and returns something to wait for (a jax tree, or anything that is
        finished when it returns). They must not share donated buffers.
      rounds: how many times the whole circle is run; its order is reversed every other round.
      burst: timed calls of one alternative in a row; one untimed call precedes them, to warm the caches
        that the others have emptied. Calls of a burst are dispatched together, as a training loop does.
      warmup: untimed calls before the first round (compilation).
      reference: whose time the ratios are over; the last-named where None.

    Raises:
      KeyError: where `reference` is not among the thunks.
    """
    names = list(thunks)
    reference = names[-1] if reference is None else reference
    if reference not in thunks:
        raise KeyError(f"reference {reference!r} is not among {names}")
    for thunk in thunks.values():
        for _ in range(warmup):
            wait(thunk())
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names if i % 2 == 0 else names[::-1]:
            times[name].append(_burst(thunks[name], burst))
    base = times[reference]
    return [
        Row(
            name,
            statistics.median(t),
            min(t),
            statistics.median(a / b for a, b in zip(t, base, strict=True)),
            min(t) / min(base),
        )
        for name, t in times.items()
    ]


def _burst(thunk: Callable[[], Any], calls: int) -> float:
    """Milliseconds a call, over `calls` calls after one that is not timed."""
    wait(thunk())
    start = time.perf_counter()
    out = None
    for _ in range(calls):
        out = thunk()
    wait(out)
    return (time.perf_counter() - start) / calls * 1e3


def markdown(rows: list[Row], title: str = "") -> str:
    """The rows as a markdown table, the reference being the row whose ratio is 1."""
    lines = [f"### {title}\n"] if title else []
    lines += ["| | median ms | best ms | ratio (median of rounds) | ratio (best) |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.name} | {r.median_ms:.2f} | {r.best_ms:.2f} | {r.ratio:.2f} | {r.best_ratio:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)
