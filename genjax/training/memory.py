"""Keeps freed memory in the process on CPU hosts, where each step's temporaries would be faulted in anew.

XLA takes the temporaries of every execution from malloc. glibc hands blocks of more than a few tens of
megabytes back to the kernel at once, so that each step touches fresh pages: 150,000 faults or more a step for
a U-Net of width 32 on 64 images of 28x28, and 330 to 1,100 ms of the kernel's time beside 1,350 of arithmetic.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGEST = 2**31 - 1


def keep() -> bool:
    """Tells glibc to reuse freed memory rather than return it; False where the C library is another.

    Costs nothing but that the process stays as large as it has been. One arena, since only the main one can
    hold large blocks. Affects the memory that is allocated from now on; calling it again changes nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not glibc
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, _LARGEST))
    return all(mallopt(name, value) for name, value in settings)
