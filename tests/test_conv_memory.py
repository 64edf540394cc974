"""Freed memory stays in the process, so that the next step's temporaries fault nothing in."""

from __future__ import annotations

import platform
import subprocess
import sys

from genjax.training import memory

FAULTS = """
import resource, sys
import numpy as np
from genjax.training import memory
if sys.argv[1] == "keep":
    assert memory.keep()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(3):
    before = faults()
    big = np.ones(64 * 2**20, np.uint8)
    del big
print(faults() - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)


def test_large_blocks_are_reused():
    if platform.libc_ver()[0] != "glibc":
        assert not memory.keep()
        return
    # Without it a block of 64 MiB is 16,384 pages, every time (fewer where the kernel gives huge ones).
    kept, returned = faults("keep"), faults("return")
    assert kept < 10
    assert kept < returned
