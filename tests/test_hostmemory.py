"""Freed memory is kept: a large block costs its page faults once (in a process of its own: it lasts)."""

from __future__ import annotations

import platform
import subprocess
import sys

from genjax.hostmemory import keep_freed_memory

MEASURE = """
import resource, sys, threading
import numpy as np
from genjax.hostmemory import keep_freed_memory
assert sys.argv[1] == "off" or keep_freed_memory()
def work(faults=[]):
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        x = np.ones(32 << 20, np.float32)
        del x
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(sum(faults[1:]))
thread = threading.Thread(target=work)  # XLA allocates in threads of its own
thread.start(); thread.join()
"""


def faults(how: str) -> int:
    # numpy's own advice to the kernel for huge pages would hide most faults.
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, how],
        env={"NUMPY_MADVISE_HUGEPAGE": "0", "PYTHONPATH": ":".join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(out.stdout)


def test_a_freed_block_is_not_faulted_in_again():
    if platform.libc_ver()[0] != "glibc":  # the others have no such settings: nothing must be touched
        assert not keep_freed_memory()
        return
    assert faults("off") > 50_000  # 128 MiB in pages of 4 KiB, three times
    assert faults("on") < 1_000
