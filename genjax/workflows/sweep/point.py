"""Train and score one run of a sweep, in this process or, called as a program, in one of its own.

python -m genjax.workflows.sweep.point SWEEP_DIRECTORY RUN PARENT_PROCESS
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax

from genjax import evaluation, files
from genjax.errors import BusyError, DataError, GenjaxError, Interrupted
from genjax.training import memory, metricslog
from genjax.workflows import evaluate as scoring
from genjax.workflows import train
from genjax.workflows.assemble import Datasets, Experiment, restore
from genjax.workflows.sweep import check
from genjax.workflows.sweep.plan import Plan, Point, read

T = TypeVar("T")
log = logging.getLogger("genjax")
TRAINED = "trained.json"
"""Marks a run whose training has finished; holds the metrics of its last evaluation."""
FAILED = "failed.json"
"""Holds the error of a run that failed; it is tried again by the next call."""
ERROR = "error.txt"
"""The traceback of a run that failed with an unexpected error."""
PATIENCE = 120.0
"""Seconds to wait for a directory that another process still writes to."""


class Runner:
    """Run the points of a sweep one after another; datasets and features are loaded once.

    Args:
      where: the sweep's directory.
    """

    def __init__(self, where: Path, plan: Plan, datasets: Datasets | None = None):
        self.where = where
        self.plan = plan
        self.datasets = datasets or Datasets()
        self._shared: tuple[evaluation.Features | None, evaluation.ReferenceStatistics | None] | None = None

    def experiment(self, values: dict[str, Any]) -> Experiment:
        """Return the experiment of a setting; its stages are trained first where they are not finished.

        Raises:
          GenjaxError: as `train.prepare`.
        """
        point = Point(values, 0)
        return train.prepare(self.plan.settings_of(point), self.where / point.name, self.datasets)

    def prepare(self, say: Callable[[str], None]) -> tuple[Any, Any]:
        """Return the feature extractor, trained first if need be, and the reference statistics.

        All runs share them. Both are None if the sweep is compared by its loss.
        """
        if self.plan.score is None:
            return None, None
        if self._shared is None:
            settings = self.plan.settings_of(self.plan.points[0])
            dataset = self.datasets.load(settings.data)
            root = self.where / "features"
            features = scoring.features(settings.evaluate.features, dataset, root, self.datasets, say)
            reference = None
            if evaluation.measurable(dataset.spec):
                reference = evaluation.ReferenceStatistics(dataset, features, settings.evaluate)
            self._shared = features, reference
        return self._shared

    def run(self, point: Point) -> str:
        """Train and score a run, or what is left of it; return the error if it fails, else an empty string.

        Raises:
          Interrupted: a signal has stopped it; it has saved and can be resumed.
        """
        directory = self.where / point.name
        (directory / FAILED).unlink(missing_ok=True)
        try:
            _patiently(lambda: self._run(point, directory))
        except Interrupted:
            raise
        except GenjaxError as error:
            return fail(directory, error.message)
        except (
            Exception
        ) as error:  # one run, for example one too large for the memory, must not stop the others
            files.write_text(directory / ERROR, traceback.format_exc())
            first = str(error).strip().split("\n")[0]
            return fail(directory, f"{type(error).__name__}: {first} (see {directory / ERROR})")
        finally:
            jax.clear_caches()
        return ""

    def _run(self, point: Point, directory: Path) -> None:
        if not (directory / TRAINED).exists():
            train.train(self.plan.settings_of(point), directory, datasets=self.datasets)
            files.write_json(directory / TRAINED, final(directory))
        if self.plan.score is not None and not (directory / "scores.json").exists():
            features, reference = self.prepare(log.info)
            trained = restore(directory, datasets=self.datasets)
            scoring.evaluate(trained, features, reference=reference)
        measured(self.where, self.plan, point)  # a run without the score has failed


def _patiently(call: Callable[[], T]) -> T:
    """Return what a call returns, and wait for a directory that another process is still leaving.

    A run whose sweep was killed saves before it leaves; runs side by side share stages and a classifier.

    Raises:
      BusyError: the other process has not left after PATIENCE seconds.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def final(directory: Path) -> dict[str, Any]:
    """Return the last evaluation in metrics.jsonl: {"step", "seconds", metric: value}.

    Raises:
      DataError: there is none.
    """
    lines, _ = metricslog.read(directory)
    found = [line for line in lines if line["split"] == "eval"]
    if not found:
        path = directory / metricslog.FILE
        raise DataError(f"{path} holds no evaluation", "delete the run's directory, and sweep again")
    return found[-1]


def measured(where: Path, plan: Plan, point: Point) -> evaluation.Score | None:
    """Return the score of a run by which settings are compared; None if it is not finished.

    Raises:
      DataError: a file that is there cannot be read, or does not have the score.
    """
    directory = where / point.name
    if plan.score is None:
        if not (directory / TRAINED).exists():
            return None
        value = _metrics(directory / TRAINED).get(plan.loss)
        if not isinstance(value, int | float):
            raise DataError(f"the final evaluation loss is {value!r} ({plan.loss} in {directory / TRAINED})")
        meaning = f"{plan.loss} of held-out rows after the last step"
        return evaluation.Score(
            plan.loss, value, better="lower", label="Final evaluation loss", meaning=meaning
        )
    if not (directory / "scores.json").exists():
        return None
    scores = evaluation.read(directory / "scores.json")
    found = choose(scores, plan.score)
    if found is None:
        raise DataError(
            f"{directory / 'scores.json'} has no score {plan.score!r}",
            f"it has {', '.join(s.name for s in scores)}",
        )
    return found


def _metrics(path: Path) -> dict[str, Any]:
    """Return the metrics of a trained.json. Raises DataError if it holds something else."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "delete it, and sweep again") from error


def choose(scores: list[evaluation.Score], name: str) -> evaluation.Score | None:
    """Return the score of a name, or the first whose name begins with it, or any likelihood; else None."""
    exact = [s for s in scores if s.name == name]
    longer = [s for s in scores if s.name.startswith((f"{name}/", f"{name}_"))]
    likelihoods = [s for s in scores if "/" in s.name] if name == check.ANY_LIKELIHOOD else []
    return next(iter([*exact, *longer, *likelihoods]), None)


def fail(directory: Path, error: str) -> str:
    """Mark a run as failed; return the error."""
    files.write_json(directory / FAILED, {"error": error})
    return error


def failure(where: Path, point: Point) -> str:
    """Return the error of a run that has failed; an empty string for any other."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        return str(json.loads((where / point.name / FAILED).read_text("utf-8"))["error"])
    return ""


def find(where: Path, name: str) -> tuple[Plan, Point]:
    """Return the plan of a sweep and its run of this name.

    Raises:
      DataError: there is no such sweep or run.
    """
    plan = read(where)
    if plan is None:
        raise DataError(f"no sweep in {where}", "give the directory that `genjax sweep` wrote")
    point = next((p for p in plan.points if p.name == name), None)
    if point is None:
        raise DataError(f"{where} has no run {name!r}", "see sweep.json for the names of its runs")
    return plan, point


def main(directory: str, name: str) -> int:
    """Run one point; return an exit code, which is 0 also for a run that failed: failed.json says so."""
    logging.basicConfig(level=logging.WARNING, format="genjax: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    memory.keep()
    try:
        plan, point = find(Path(directory), name)
        Runner(Path(directory), plan).run(point)
    except GenjaxError as error:
        print(f"genjax: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def leave_with(parent: int) -> None:
    """Send this process SIGTERM when its parent has gone, so that it saves and frees the run's directory."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    leave_with(int(sys.argv[3]))
    sys.exit(main(*sys.argv[1:3]))
