"""Choose between equivalent forms of a computation by measuring them on this machine, once per shape.

XLA's CPU compiler makes the same convolution fast on one machine and ten times slower on another, so that no
table of shapes holds everywhere. Choices are kept in a file and are the same in every later run on the
machine: a run that is resumed computes the same bits. GENJAX_FORMS_FILE names another file; "off" takes the
first form of every list and measures nothing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from filelock import FileLock

from genjax.files import replacing

MOST = 2**27
"""Values in the arguments (0.5 GB in float32) above which nothing is measured: it may not fit into memory."""
CALLS = 3
"""Timed calls of each form; the fastest one counts."""
MARGIN = 0.8
"""Another form replaces the first one if it takes less than this share of its time."""


def fastest(
    name: str, forms: Mapping[str, Callable[..., jax.Array]], shapes: tuple[tuple[int, ...], ...], dtype: str
) -> str:
    """Return the name of the form that is fastest for arguments of these shapes.

    Args:
      name: of the computation with its static options, for the file.
      forms: name -> function; the first one is the default.
      shapes, dtype: of the arguments.

    With several processes the first form is taken: all processes must run the same program. So it is for
    arguments of more than MOST values.
    """
    first = next(iter(forms))
    path = _file()
    if path is None or jax.process_count() > 1 or sum(map(math.prod, shapes)) > MOST:
        return first
    key = f"{name} {' '.join('x'.join(map(str, s)) for s in shapes)} {dtype} {_machine()}"
    with contextlib.suppress(OSError):
        # The lock keeps two runs that start together from making different choices.
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            known = _read(path)
            if key not in known:
                # A thread of its own: this may be called while a program is traced, and a thread starts
                # outside of every trace.
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    known[key] = pool.submit(_measure, dict(forms), shapes, dtype).result()
                with replacing(path) as partial:
                    partial.write_text(json.dumps(known, indent=1, sort_keys=True))
            choice = known[key]
            return choice if choice in forms else first
    return first


def _measure(
    forms: Mapping[str, Callable[..., jax.Array]], shapes: tuple[tuple[int, ...], ...], dtype: str
) -> str:
    rng = np.random.default_rng(0)
    arguments = [jax.device_put(rng.normal(size=shape).astype(dtype)) for shape in shapes]
    calls = {name: jax.jit(form) for name, form in forms.items()}
    for call in calls.values():
        jax.block_until_ready(call(*arguments))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(CALLS):
        # In turn: a slow moment of the machine then falls on all of them.
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(*arguments))
            best[name] = min(best[name], time.perf_counter() - start)
    first = next(iter(forms))
    choice = min(best, key=best.__getitem__)
    return choice if best[choice] < MARGIN * best[first] else first


def _file() -> Path | None:
    """Return the file of choices, or None if nothing is to be measured."""
    named = os.environ.get("GENJAX_FORMS_FILE")
    if named == "off":
        return None
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genjax" / "forms.json"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


@functools.cache
def _machine() -> str:
    """Describe what decides about speed: the processor, the number of cores and the compiler's version."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model} {os.cpu_count()} cores jax {jax.__version__}"
