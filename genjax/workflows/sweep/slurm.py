"""Execute the runs of a sweep as jobs of SLURM, through submitit.

A job whose time is nearly over gets SIGUSR2 (`slurm_signal_delay_s` before its end). It then saves and is
submitted again. After SIGTERM alone it only saves: that is `scancel`, and a job that was cancelled must not
come back, or preemption, after which SLURM itself starts the job again. A job that is started again resumes
its run.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax.errors import ConfigError, Interrupted
from genjax.training.signals import Stop
from genjax.workflows.sweep import point as runs
from genjax.workflows.sweep.jobs import LOGS, POLL, Done
from genjax.workflows.sweep.plan import Point


class Task:
    """Run one point in a job."""

    def __call__(self, directory: str, name: str) -> int:
        """Run the point; return its exit code. A job that is stopped does not return."""
        import submitit

        number = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
        again = signal.getsignal(number)  # submitit's handler: submits the job again and exits
        idle = signal.getsignal(signal.SIGTERM)
        over = False

        def stop(*received: Any) -> None:
            nonlocal over
            over = True
            if signal.getsignal(signal.SIGTERM) is not idle:
                signal.raise_signal(signal.SIGTERM)  # the training saves, and returns
            elif callable(again):
                again(*received)

        signal.signal(number, stop)
        try:
            code = runs.main(directory, name)
        finally:
            signal.signal(number, again)
        if code == Interrupted.exit_code:
            if over and callable(again):
                again(number, None)
            sys.exit(code)  # without a result: the job is not done
        return code

    def checkpoint(self, directory: str, name: str) -> Any:
        """Return what is submitted again when the job's time is over; submitit calls it."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, directory, name)


def execute(where: Path, points: Sequence[Point], options: Mapping[str, Any], done: Done) -> None:
    """Execute runs as an array of SLURM jobs, and wait for them.

    Args:
      options: parameters of submitit's AutoExecutor (timeout_min, gpus_per_node, slurm_partition ...), and
        `cluster`: "slurm", or "local" for processes of this machine.

    Raises:
      ConfigError: submitit is missing, there is no SLURM here, or an option is unknown or refused by SLURM.
      Interrupted: a signal has stopped the sweep, which has cancelled its jobs.
    """
    names = [p.name for p in points]
    jobs = _submitted(executor_of(where, options), [str(where.resolve())] * len(points), names)
    running = dict(zip(names, zip(points, jobs, strict=True), strict=True))
    with Stop() as stop:
        try:
            while running:
                time.sleep(max(POLL, 0.01 * len(running)))
                if stop.signal is not None:
                    raise Interrupted(
                        f"stopped by {stop.signal}; the jobs of {where} are cancelled",
                        "run the same command again to go on from their checkpoints",
                    )
                for name, (point, job) in list(running.items()):
                    if job.done():
                        del running[name]
                        done(point, _outcome(where, point, job))
        finally:
            for _, job in running.values():
                job.cancel()


def _submitted(executor: Any, *columns: Sequence[str]) -> list[Any]:
    """Submit a job for each row of the columns. Raises ConfigError with what sbatch says if it refuses."""
    try:
        return executor.map_array(Task(), *columns)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        said = str(error).strip().split("\n")
        reason = next((line for line in said if line.startswith("sbatch: ")), said[0])
        raise ConfigError(
            f"the jobs could not be submitted: {reason}", "change the options --slurm..."
        ) from error


def _outcome(where: Path, point: Point, job: Any) -> str:
    """Return the error of a run whose job has ended; an empty string if it has not failed."""
    error = job.exception()
    code = None if error is not None else job.result()
    if error is not None or code:
        said = _said(str(error)) if error is not None else f"code {code}"
        message = f"its job {job.job_id} ended with {said} (see {job.paths.stderr})"
        return runs.fail(where / point.name, message)
    return runs.failure(where, point)


def _said(error: str) -> str:
    """Return an error of submitit in one line: what was raised in the job, or the state of one that died."""
    if state := re.search(r"has not produced any output \(state: (\w+)\)", error):
        return f"no result, in state {state[1]}"
    before, traceback, after = error.rpartition("Traceback (most recent call last):")
    if not traceback:
        return after.strip().split("\n")[0]
    raised = re.findall(r"^[\w.]+(?::.*|$)", after, re.MULTILINE)
    return raised[0] if raised else before.strip().split("\n")[0]


def check(options: Mapping[str, Any]) -> None:
    """Refuse options of jobs before anything is written to the sweep's directory.

    Raises:
      ConfigError: as `executor_of`.
    """
    with tempfile.TemporaryDirectory() as folder:
        executor_of(Path(folder), options)


def executor_of(where: Path, options: Mapping[str, Any]) -> Any:
    """Return submitit's executor with some options.

    Raises:
      ConfigError: submitit is missing, there is no SLURM here, or an option is unknown.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError("--slurm needs submitit", "pip install 'genjax-lab[slurm]'") from None
    rest = {"timeout_min": 24 * 60, "name": "genjax-sweep", **options}
    cluster = rest.pop("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise ConfigError(
            f"--slurm.cluster={cluster}: no such cluster",
            "leave it out for SLURM, or give local for processes of this machine",
        )
    try:
        executor = submitit.AutoExecutor(folder=where / LOGS, cluster=cluster)
        executor.update_parameters(**rest)
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"--slurm: {first}",
            "give parameters of submitit's AutoExecutor, e.g. --slurm.timeout_min=60",
        ) from error
    return executor
