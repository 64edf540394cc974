"""Time alternatives in turn in one process, so that other load on the machine affects all of them alike.

`compare({"jax": thunk, "torch": thunk})` runs short bursts of each in turn for many rounds. It reports the
median and the fastest burst of each, its processor time (summed over cores, which other processes on the
machine hardly change), and the median over rounds of its ratio to a reference: both times of a ratio were
measured within the same second.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

THREADS = 2
# Without PASSIVE, OpenMP threads (torch) spin for a while after their work and occupy the cores that the
# other library needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))


class Row(NamedTuple):
    """Hold the timing of one alternative, in milliseconds per call and relative to the reference.

    Attributes:
      median_ms, best_ms: median and minimum over rounds of the wall-clock time.
      cpu_ms: median over rounds of the process's processor time, summed over threads.
      ratio: median over rounds of the wall-clock time divided by the reference's.
      best_ratio, cpu_ratio: ratios of best_ms and of cpu_ms to the reference's.
    """

    name: str
    median_ms: float
    best_ms: float
    cpu_ms: float
    ratio: float
    best_ratio: float
    cpu_ratio: float


def torch_threads(threads: int = THREADS) -> None:
    """Give torch as many threads as XLA has cores; call it before the first torch operation."""
    import torch

    torch.set_num_threads(threads)


def wait(x: Any) -> Any:
    """Return `x` once every jax array in it is computed; other values count as ready (torch on a CPU)."""
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
    """Time the thunks in turn and return one row for each.

    Args:
      thunks: each runs one step and returns something to wait for (a jax tree, or anything that is
        finished when it returns). They must not share donated buffers.
      rounds: number of rounds; a round times every alternative, in reverse order every other time.
      burst: timed calls of one alternative in a row. One untimed call precedes them and warms the caches
        that the other alternatives have evicted. The calls of a burst are dispatched together, as in a
        training loop.
      warmup: untimed calls before the first round (compilation).
      reference: the alternative whose time is the ratios' denominator; the last one if None.

    Raises:
      KeyError: if `reference` is not among the thunks.
    """
    names = list(thunks)
    reference = names[-1] if reference is None else reference
    if reference not in thunks:
        raise KeyError(f"reference {reference!r} is not among {names}")
    for thunk in thunks.values():
        for _ in range(warmup):
            wait(thunk())
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names if i % 2 == 0 else names[::-1]:
            times[name].append(_burst(thunks[name], burst))
    rows = []
    base, base_cpu = zip(*times[reference], strict=True)
    for name in names:
        wall, cpu = zip(*times[name], strict=True)
        rows.append(
            Row(
                name,
                statistics.median(wall),
                min(wall),
                statistics.median(cpu),
                statistics.median(a / b for a, b in zip(wall, base, strict=True)),
                min(wall) / min(base),
                statistics.median(cpu) / statistics.median(base_cpu),
            )
        )
    return rows


def _burst(thunk: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Return wall-clock and processor milliseconds per call, over `calls` calls after an untimed one."""
    wait(thunk())
    start = time.perf_counter()
    cpu_start = time.process_time()
    out = None
    for _ in range(calls):
        out = thunk()
    wait(out)
    wall = time.perf_counter() - start
    cpu = time.process_time() - cpu_start
    return wall / calls * 1e3, cpu / calls * 1e3


def markdown(rows: list[Row], title: str = "") -> str:
    """Format the rows as a markdown table; the reference is the row whose ratios are all 1."""
    lines = [f"### {title}\n"] if title else []
    lines += [
        "| | median ms | best ms | cpu ms | ratio (median of rounds) | ratio (best) | ratio (cpu) |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.median_ms:.2f} | {r.best_ms:.2f} | {r.cpu_ms:.2f} "
        f"| {r.ratio:.2f} | {r.best_ratio:.2f} | {r.cpu_ratio:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)
