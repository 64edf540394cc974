"""The guard of the command line: which signal ends the process, when, and with which code. Without JAX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPT = """
import hashlib, os, signal, sys, time
before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
from genjax.training import signals
from genjax.errors import Interrupted
state = {{"safe": {safe}, "idle": {idle}}}
with signals.Guard() as guard:
    if {loop}:
        guard.leave_when(lambda: state["safe"], lambda: state["idle"])
    print("ready", flush=True)
    {body}
print("finished")
"""
BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 60_000_000)"
"""A call of many seconds that runs no Python code, as a compilation does."""
WAIT = "time.sleep(20)"


def ended(
    numbers: Sequence[signal.Signals], body: str, safe: bool = False, idle: bool = False, loop: bool = True
) -> tuple[int, str, float]:
    """Return exit code, output, and seconds from the last signal to the end."""
    script = SCRIPT.format(safe=safe, idle=idle, loop=loop, body=body)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        time.sleep(0.2)
        process.send_signal(number)
    sent = time.monotonic()
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, time.monotonic() - sent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", [False, True])
def test_nothing_to_lose_ends_at_once_within_a_call_that_runs_no_python(number: signal.Signals, loop: bool):
    code, out, seconds = ended([number], BUSY, safe=True, loop=loop)
    assert code == 75
    assert f"stopped by {number.name}" in out
    assert "hint: run the same command again" in out
    assert "finished" not in out
    assert seconds < 3


def test_a_signal_waits_until_nothing_is_lost():
    code, out, _ = ended([signal.SIGTERM], "time.sleep(1); state['safe'] = True; time.sleep(20)")
    assert code == 75
    assert "SIGTERM: saving before the run stops" in out


def test_a_second_signal_waits_for_a_checkpoint_only():
    body = "time.sleep(1.5); state['idle'] = True; time.sleep(20)"
    code, _, seconds = ended([signal.SIGINT, signal.SIGINT], body)
    assert code == 75
    assert 0.3 < seconds < 3


def test_a_third_signal_waits_for_nothing():
    code, _, seconds = ended([signal.SIGINT] * 3, WAIT)
    assert code == 75
    assert seconds < 3


def test_a_finished_training_is_not_ended():
    code, out, _ = ended([signal.SIGTERM], "guard.hold(); time.sleep(1)", safe=True)
    assert (code, out) == (0, "finished\n")


def test_a_signal_during_one_training_stops_the_command_before_its_next_part():
    body = """
    with signals.entered() as stop:
        time.sleep(1)
    try:
        signals.proceed()
    except Interrupted as error:
        sys.exit(error.exit_code)"""
    code, out, _ = ended([signal.SIGTERM], body.strip(), safe=False)
    assert code == 75
    assert "finished" not in out


def test_handlers_are_restored_and_children_do_not_inherit_them():
    body = """
    import signal
    import warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside threads
    child = os.fork()
    if child == 0:
        signal.raise_signal(signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    time.sleep(0.3)
assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before"""
    code, out, _ = ended([], body.strip(), safe=True, loop=False)
    assert (code, out) == (0, "finished\n")
