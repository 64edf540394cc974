"""Several processes of one run on one machine: the numbers of one process, and an end in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed_worker
import numpy as np
import pytest
from compiling import QUICK
from properties import assert_equal_runs, last_step, leaves, lines

from genjax import cli
from genjax.errors import ConfigError
from genjax.training import distributed
from genjax.training.checkpoint import saved_steps

WORKER = Path(distributed_worker.__file__)
SHORT = {"steps": 12, "checkpoint_every": 4, "eval_every": 6, "sample_every": 6}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(WORKER.parents[1])}


def started(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Group:
    """The processes of one run."""

    def __init__(self, directory: Path, case: str, processes: int = 2, devices: int = 1, **changes: Any):
        address = f"127.0.0.1:{free_port()}"
        env = environment(devices)
        settings = [f"{k}={json.dumps(v)}" for k, v in {**SHORT, **changes}.items()]
        self.directory = directory
        command = [sys.executable, str(WORKER), str(directory), case, address, str(processes)]
        self.processes = [started([*command, str(i), *settings], env) for i in range(processes)]

    def reaches(self, step: int, timeout: float = 120) -> None:
        end = time.monotonic() + timeout
        while last_step(self.directory) < step and time.monotonic() < end:
            assert all(p.poll() is None for p in self.processes), self.end()
            time.sleep(0.02)
        assert last_step(self.directory) >= step

    def end(self, timeout: float = 120) -> list[tuple[int, str, str]]:
        """Wait for all; return (exit code, stdout, stderr) of each."""
        return ended(self.processes, timeout)


def ended(processes: list[subprocess.Popen[str]], timeout: float = 120) -> list[tuple[int, str, str]]:
    out = []
    try:
        for p in processes:
            stdout, stderr = p.communicate(timeout=timeout)
            out.append((p.returncode, stdout, stderr))
    finally:
        for p in processes:
            p.kill()
    return out


def run(directory: Path, case: str, **how: Any) -> list[tuple[int, str, str]]:
    out = Group(directory, case, **how).end()
    assert [code for code, _, _ in out] == [0] * len(out), out
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run of one process with one device."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    run(directory, "data", processes=1)
    return directory


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """An uninterrupted run of two processes, long enough to be interrupted elsewhere."""
    directory = tmp_path_factory.mktemp("pair") / "run"
    run(directory, "fsdp", steps=40, checkpoint_every=10)
    return directory


def assert_close_lines(a: Path, b: Path) -> None:
    x, y = lines(a), lines(b)
    assert [(r["step"], r["split"]) for r in x] == [(r["step"], r["split"]) for r in y]
    assert len(x) > 12
    for left, right in zip(x, y, strict=True):
        assert set(left) == set(right)
        for name in left:
            if name != "split":
                np.testing.assert_allclose(left[name], right[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("case", "devices"), [("data", 1), ("fsdp", 2)])
def test_two_processes_have_the_losses_of_one(tmp_path, alone, case, devices):
    out = run(tmp_path / "run", case, devices=devices)
    assert_close_lines(alone, tmp_path / "run")
    assert all(f"sampled {i} 12" in stdout for i, (_, stdout, _) in enumerate(out))
    for i in range(2):
        divided = json.loads((tmp_path / f"shards-{i}.json").read_text())
        kernels = [p for p in divided if p.endswith("kernel")]
        assert [divided[p] for p in kernels] == [case == "fsdp"] * 2
    x, y = leaves(alone), leaves(tmp_path / "run")
    for path in x:
        np.testing.assert_allclose(x[path], y[path], rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_checkpoints_move_between_one_and_two_processes(tmp_path, alone, first, second):
    run(tmp_path / "run", "fsdp", processes=first, steps=6)
    run(tmp_path / "run", "fsdp", processes=second)
    assert_close_lines(alone, tmp_path / "run")


def test_a_signal_to_one_saves_and_ends_both_with_75(tmp_path, pair):
    how = {"steps": 40, "checkpoint_every": 10, "eval_every": 6, "sample_every": 6}
    group = Group(tmp_path / "run", "fsdp", delay=0.05, **how)
    group.reaches(3)
    group.processes[1].send_signal(signal.SIGTERM)
    out = group.end()
    assert [code for code, _, _ in out] == [75, 75], out
    step = saved_steps(tmp_path / "run")[-1]
    assert 3 <= step < 40
    assert all(f"stopped by SIGTERM after step {step}" in stderr for _, _, stderr in out)
    run(tmp_path / "run", "fsdp", **how)
    assert_equal_runs(pair, tmp_path / "run")


def kill_one(group: Group, victim: int) -> None:
    """SIGKILL one process after step 13; the other must leave within a minute with one clear error."""
    group.reaches(13)
    group.processes[victim].kill()
    began = time.monotonic()
    code, _, stderr = group.end(timeout=60)[1 - victim]
    assert time.monotonic() - began < 60
    assert code == 9, stderr
    assert stderr.count("another process of this run stopped responding") == 1, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_ends_the_other_and_both_resume(tmp_path, pair, victim):
    how = {"steps": 40, "checkpoint_every": 10, "eval_every": 6, "sample_every": 6}
    kill_one(Group(tmp_path / "run", "fsdp", delay=0.05, **how), victim)
    assert 10 <= last_step(tmp_path / "run") < 40
    run(tmp_path / "run", "fsdp", **how)
    assert_equal_runs(pair, tmp_path / "run")


def test_another_jaxlib_reports_the_death_of_one_as_well(tmp_path):
    """Without the private callback: the collective that fails is enough."""
    kill_one(Group(tmp_path / "run", "plain", delay=0.05, steps=40, eval_every=0), 0)


def test_a_hook_that_fails_in_one_process_ends_both_with_8(tmp_path):
    out = Group(tmp_path / "run", "hooks").end()
    assert [code for code, _, _ in out] == [8, 8], out
    assert all("the disk of pictures is full" in stderr for _, _, stderr in out)
    assert saved_steps(tmp_path / "run")[-1] == SHORT["steps"]


AUDITED = """
import os, runpy, sys

directory, log = sys.argv.pop(1), sys.argv.pop(1)
out = os.open(log, os.O_WRONLY | os.O_CREAT)


def audit(event, args):
    if event == "os.rename":
        path = args[1]
    elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        path = args[0]
    else:
        return
    if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(directory):
        os.write(out, (os.path.relpath(path, directory) + chr(10)).encode())


sys.addaudithook(audit)
runpy.run_module("genjax.cli", run_name="__main__", alter_sys=True)
"""
"""Runs `python -m genjax.cli` and notes each file of the run directory that this process opens to write or
renames another one to."""


def test_the_command_line_trains_in_two_processes(tmp_path, capsys):
    directory = tmp_path / "run"
    command = ["train", "--config=digits/vae:smoke", f"--dir={directory}", "--processes=2"]
    command += [f"--coordinator=127.0.0.1:{free_port()}", "--config.train.compilation_cache=False"]
    logs = [tmp_path / f"written-{i}" for i in range(2)]
    audited = [[sys.executable, "-c", AUDITED, str(directory), str(log)] for log in logs]
    processes = [
        started([*start, *command, f"--process={i}"], environment(1)) for i, start in enumerate(audited)
    ]
    out = ended(processes)
    assert [code for code, _, _ in out] == [0, 0], out
    assert [stdout.count("trained to step 8") for _, stdout, _ in out] == [1, 0]
    first, second = ([x for x in log.read_text().split() if "checkpoints" not in x] for log in logs)
    assert first.count("samples/step_00000008.png") == 1
    assert {"config.json", "dataset.json", "metrics.jsonl", "hooks.json"} <= set(first)
    assert second == []
    assert saved_steps(directory)[-1] == 8
    assert [r["step"] for r in lines(directory) if r["split"] == "eval"][-1] == 8
    assert cli.main(["sample", str(directory), "--num=4"]) == 0
    assert "4 samples of step 8" in capsys.readouterr().out
    with np.load(directory / "samples" / "sample.npz") as rows:
        assert rows["image"].shape == (4, 8, 8, 1)


def test_a_directory_in_use_is_refused_in_every_process(tmp_path):
    from genjax.training import run_lock

    (tmp_path / "run").mkdir()
    with run_lock.exclusive(tmp_path / "run"):
        out = Group(tmp_path / "run", "data").end()
    assert [code for code, _, _ in out] == [7, 7], out
    assert all(f"written by process {os.getpid()}" in stderr for _, _, stderr in out)


def test_addresses_that_do_not_fit_are_errors():
    with pytest.raises(ConfigError, match="belong together"):
        distributed.initialise("127.0.0.1:1234", 2)
    with pytest.raises(ConfigError, match="no process 2 of 2"):
        distributed.initialise("127.0.0.1:1234", 2, 2)
    with pytest.raises(ConfigError, match="no port"):
        distributed.initialise("somewhere", 2, 1)
    distributed.initialise("127.0.0.1:1234", 1, 0)  # one process needs no coordinator
    assert distributed.count() == 1
    assert distributed.is_primary()


def test_the_environment_is_read(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert distributed._environment() is None
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "run-0.pods:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")  # an indexed Job or JobSet
    assert distributed._environment() == ("run-0.pods:1234", 4, 3)
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    assert distributed._environment() is None
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert distributed._environment() is None  # the batch script, not a step
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    assert distributed._environment() == (None, None, None)
