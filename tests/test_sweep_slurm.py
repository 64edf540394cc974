"""Runs of a sweep as jobs, through submitit itself: the commands of SLURM are those of tests/slurm."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")  # its import would configure the process's logging

from genjax import cli, settings
from genjax.errors import ConfigError, Interrupted
from genjax.workflows.sweep import plan, run, slurm

ROOT = Path(__file__).parent.parent
CONFIG = "digits/ngram:smoke"
SMALL = ["train.steps=400", "train.checkpoint_every=20", "train.log_every=1", "train.tensorboard=False"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the commands on the path; return the folder where they keep their files."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{ROOT / 'tests' / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # one device
    monkeypatch.delenv("SUBMITIT_LOG_LEVEL", raising=False)
    return folder


def planned(values: str) -> plan.Plan:
    return plan.make(CONFIG, settings.load(CONFIG, SMALL), lists=[f"model.strength={values}"])


def sweep(where: Path, values: str, **options) -> Path:
    return run.sweep(planned(values), where, slurm={"timeout_min": 60, **options}, say=lambda _: None)


@contextlib.contextmanager
def signalled(where: Path, number: int, target: Callable[[], int]) -> Iterator[None]:
    """Send a signal to a process as soon as the first run has one checkpoint more."""
    before = checkpoints(where)

    def send() -> None:
        while checkpoints(where) <= before:
            time.sleep(0.02)
        os.kill(target(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    thread.join()


def checkpoints(where: Path) -> set[int]:
    folder = where / "strength=4,seed=0" / "checkpoints"
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}


def test_jobs_are_cancelled_with_the_sweep_and_resume_and_one_whose_time_is_over_starts_again(
    cluster: Path, tmp_path: Path
):
    where = tmp_path / "sweep"
    cancelled = pytest.raises(Interrupted, match=r"the jobs of .* are cancelled")
    with cancelled, signalled(where, signal.SIGTERM, os.getpid):
        sweep(where, "4.0")
    assert (cluster / "cancelled").read_text() == "1\n"
    # A job that was cancelled has saved, and has not asked to be started again.
    ended(cluster / "1.state")
    assert (cluster / "1.starts").read_text() == "start\n"
    assert "the run has saved" in (where / "logs" / "1_0_log.err").read_text()

    with signalled(where, signal.SIGUSR2, lambda: int((cluster / "2_0.process").read_text())):
        page = sweep(where, "4.0,8.0")
    assert (cluster / "2_0.starts").read_text() == "start\n" * 2
    assert (cluster / "2_1.starts").read_text() == "start\n"
    log = (where / "logs" / "2_0_0_log.err").read_text()
    saved = int(re.search(r"after step (\d+); the run has saved", log)[1])
    assert f"step {saved + 1}/" in log, "resumed at the step that was saved"
    assert page.read_text().count('class="spot"') == 2 + 2


def test_a_job_that_dies_is_named_with_its_reason():
    died = "Job 7_0 (task: 0) with path /a/b.pkl\nhas not produced any output (state: OUT_OF_MEMORY)\nlong"
    assert slurm._said(died) == "no result, in state OUT_OF_MEMORY"
    trace = (
        "Traceback (most recent call last):\n  File x, line 1\n    f(x)\nMemoryError: too large\nhint: less\n"
    )
    raised = f"Job (task=0) failed during processing with trace:\n---\n{trace}---\nYou can check full logs"
    assert slurm._said(raised) == "MemoryError: too large"
    assert slurm._said("\nsomething else\nmore") == "something else"


def ended(state: Path) -> None:
    """Wait until a job has ended."""
    until = time.monotonic() + 20
    while state.read_text().strip() == "RUNNING":
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"slurm_partition": "none"}, "could not be submitted: sbatch: error: invalid partition"),
        ({"slurm_partitoin": "a"}, "Unknown argument 'partitoin'"),
        ({"timeout_min": "long"}, 'Parameter "timeout_min" expected type'),
        ({"cluster": "debug"}, "--slurm.cluster=debug: no such cluster"),
    ],
)
def test_what_slurm_or_submitit_refuses_is_one_error(options, says, cluster: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=re.escape(says)):
        sweep(tmp_path / "sweep", "4.0,8.0", **options)


def test_a_machine_without_slurm_or_submitit_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["sweep", f"--config={CONFIG}", "--grid=model.strength=4,8", "--slurm.timeout_min=5"]
    assert cli.main(command) == 2
    assert "are you indeed on a slurm cluster" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert cli.main(command) == 2
    assert "--slurm needs submitit\n  hint: pip install 'genjax-lab[slurm]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
