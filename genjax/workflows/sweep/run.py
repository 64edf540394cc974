"""Sweep over settings and seeds: ordinary runs under one directory, a table and a plot.

A sweep that was stopped or killed goes on with the same command. Runs that are finished are kept, and one
that was interrupted resumes from its checkpoint. A run that fails is marked, and the others go on.
"""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genjax.errors import ConfigError, DataError, GenjaxError
from genjax.report import sweep as report
from genjax.training import run_lock
from genjax.workflows import directory as directories
from genjax.workflows.assemble import Datasets
from genjax.workflows.compare import environment
from genjax.workflows.sweep import check, jobs, results
from genjax.workflows.sweep import plan as plans
from genjax.workflows.sweep import point as runs
from genjax.workflows.sweep import slurm as slurm_jobs
from genjax.workflows.sweep.plan import Plan, Point


class Progress:
    """Print which run has begun or ended, and about how long the rest will take.

    Args:
      total: runs of the sweep.
      kept: of these, the ones that an earlier session has finished.
    """

    def __init__(self, total: int, kept: int, write: Callable[[str], None]):
        self.total = total
        self.kept = kept
        self.ended = 0
        self.began = time.monotonic()
        self.write = write
        if kept:
            write(f"{kept} of {total} runs are finished and kept")

    def begin(self, point: Point) -> None:
        """Announce a run."""
        self.write(f"[{self.kept + self.ended + 1}/{self.total}] {point.label} {self._time()}")

    def end(self, point: Point, said: str) -> None:
        """Announce the end of a run."""
        self.ended += 1
        self.write(f"[{self.kept + self.ended}/{self.total}] {point.label}: {said} {self._time()}")

    def _time(self) -> str:
        spent = (time.monotonic() - self.began) / 60
        if not self.ended:
            return f"({spent:.1f} min so far)"
        left = spent / self.ended * (self.total - self.kept - self.ended)
        return f"({spent:.1f} min so far, about {left:.1f} min left)"


def sweep(
    given: Plan,
    directory: str | Path | None = None,
    *,
    side_by_side: int = 1,
    slurm: Mapping[str, Any] | None = None,
    command: str | None = None,
    say: Callable[[str], None] = functools.partial(print, flush=True),
) -> Path:
    """Train and score every setting with every seed; write report.html and results.json.

    Args:
      directory: runs/sweep-NAME if None. One that holds a sweep of the same config and fields goes on with
        the settings and seeds of both.
      side_by_side: processes that run at the same time; 1 runs everything in this process.
      slurm: options of jobs of SLURM, which execute the runs if it is not None (see slurm.py).

    Returns:
      The path of report.html.

    Raises:
      ConfigError: a value, a score or an option is refused; nothing has been trained.
      Interrupted: a signal has stopped the sweep.
      GenjaxError: runs failed; the others are finished and in the report.
    """
    if not 1 <= side_by_side <= 1000:
        raise ConfigError(f"--jobs={side_by_side} is not a number of processes", "give 1 or more")
    where = Path(directory) if directory else Path("runs") / f"sweep-{given.name}"
    held = plans.read(where)
    plan = plans.merge(held, given, where) if held else given
    datasets = Datasets()
    first = check.plan(plan, datasets)
    if slurm is not None:
        slurm_jobs.check(slurm)
    directories.create(where)
    with run_lock.exclusive(where):
        runner = runs.Runner(where, plan, datasets)
        if first is None:
            first = check.experiments(plan, lambda values, _: runner.experiment(values))
        check.applies(plan, first, *runner.prepare(say))
        if plan.score is None:
            plan = runner.plan = plans.with_loss(plan, check.loss(first))
        about = {
            "command": command or shlex.join(["genjax", *sys.argv[1:]]),
            "dataset": first.dataset.name,
            "environment": environment(),
        }
        plans.write(where, plan, about)
        page = _execute(runner, side_by_side, slurm, say)
    say(report.text(where))
    _check_failures(where, plan)
    return page


def _execute(
    runner: runs.Runner, side_by_side: int, slurm: Mapping[str, Any] | None, say: Callable[[str], None]
) -> Path:
    """Execute the runs that are not finished; return the path of the report."""
    where = runner.where
    plan = runner.plan
    left = [p for p in plan.points if not finished(where, plan, p)]
    progress = Progress(len(plan.points), len(plan.points) - len(left), say)

    def done(point: Point, error: str) -> None:
        found = None if error else runs.measured(where, plan, point)
        said = f"{found.label or found.name} {found.value:.5g}" if found else f"failed: {error}"
        progress.end(point, said)
        results.write(where, plan)
        report.write(where)

    if slurm is not None and left:
        slurm_jobs.execute(where, left, slurm, done)
    elif side_by_side > 1:
        jobs.side_by_side(where, left, side_by_side, done)
    else:
        jobs.in_turn(runner, left, progress.begin, done)
    results.write(where, plan)
    return report.write(where)


def finished(where: Path, plan: Plan, point: Point) -> bool:
    """Return whether a run has been trained and scored, and has not failed."""
    if runs.failure(where, point):
        return False
    try:
        return runs.measured(where, plan, point) is not None
    except DataError:
        return False  # the run says what is wrong with its files


def _check_failures(where: Path, plan: Plan) -> None:
    """Raise GenjaxError if runs have failed; names the first."""
    failed = [(p, error) for p in plan.points if (error := runs.failure(where, p))]
    if failed:
        point, error = failed[0]
        raise GenjaxError(
            f"{len(failed)} of {len(plan.points)} runs failed; {point.label}: {error}",
            f"the others are in {where / 'report.html'}; the same command tries the failed ones again",
        )
