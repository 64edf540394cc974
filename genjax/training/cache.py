"""Count compiled programs, and keep them between processes."""

from __future__ import annotations

import os
import platform
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax


def cache_compilations() -> None:
    """Keep compiled programs in $XDG_CACHE_HOME/genjax/xla, unless a folder is configured already.

    Each type of processor has a folder of its own: machines that share a home directory may have different
    CPUs, and a program compiled for one may not run on another.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        flags = next(x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    kind = f"{platform.machine()}-{sha256(flags.encode()).hexdigest()[:8]}"
    jax.config.update("jax_compilation_cache_dir", str(home / "genjax" / "xla" / kind))


_compiled = 0


def _listen(event: str, *_: Any, **__: Any) -> None:
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations() -> int:
    """Return the number of programs that this process has compiled (or read from the cache)."""
    return _compiled
