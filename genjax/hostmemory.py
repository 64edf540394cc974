"""Keeps the host's freed memory within the process, where the C library would return it to the system.

XLA on CPU allocates a program's temporary memory anew at each execution. glibc maps blocks over 32 MiB
afresh each time, and the system then zeroes every page at its first touch: 183,000 page faults and a quarter
of the processor time of a U-Net's step with 750 MB of temporaries. Kept, the same pages serve every step.
"""

from __future__ import annotations

import ctypes

# mallopt's names in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Makes malloc reuse large blocks for the rest of the process; True where that took effect.

    Call it once, before the first large allocation. It changes no result. The process's size then stays at
    its peak. The environment's form of the same, for any program:
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 MALLOC_ARENA_MAX=1. Without glibc it does nothing.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  other C libraries give these numbers other meanings
        mallopt = libc.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # One arena: a thread's own is limited to blocks of 64 MiB and would fail over to the main one each time.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
    return sum(mallopt(name, value) for name, value in settings) == len(settings)  # each gives 1 or 0
