"""Compiled programs, kept between processes."""

from __future__ import annotations

import os
import platform
from hashlib import sha256
from pathlib import Path

import jax


def cache_compilations() -> None:
    """Keeps compiled programs between processes, unless the user or an earlier call has said where.

    In $XDG_CACHE_HOME/genjax/xla, one folder for each kind of processor: programs compiled for one CPU
    need not run on another that shares the home directory.
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
