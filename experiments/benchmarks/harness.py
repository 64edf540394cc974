"""Times alternatives side by side in one process, so that what the machine does meanwhile hits all alike.

`compare({"jax": thunk, "torch": thunk})` runs short bursts of each in turn, many rounds, and reports the
median and the fastest burst of each, the processor time it took (both cores together, which other processes
on the machine hardly change), and the median over rounds of its ratio to a reference: the two members of a
ratio were measured within the same second.
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
    """One alternative's timing, in milliseconds a call, and over the reference's.

    Attributes:
      cpu_ms: the median of the process's processor time, all threads summed.
      ratio: the median over rounds of its wall-clock time over the reference's.
      best_ratio, cpu_ratio: of best_ms and of cpu_ms.
    """

    name: str
    median_ms: float
    best_ms: float
    cpu_ms: float
    ratio: float
    best_ratio: float
    cpu_ratio: float


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
    """Milliseconds a call, by the wall and by the processor, over `calls` calls after an untimed one."""
    wait(thunk())
    start, cpu = time.perf_counter(), time.process_time()
    out = None
    for _ in range(calls):
        out = thunk()
    wait(out)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return wall / calls * 1e3, cpu / calls * 1e3


def markdown(rows: list[Row], title: str = "") -> str:
    """The rows as a markdown table; the reference is the row whose ratios are all 1."""
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
