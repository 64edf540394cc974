"""Collect what the runs of a sweep have measured, with an interval over seeds: results.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genjax import evaluation, files
from genjax.evaluation import intervals
from genjax.workflows.sweep import grid
from genjax.workflows.sweep import point as runs
from genjax.workflows.sweep.plan import Plan, Point

FILE = "results.json"
TRAININGS = "trainings"
"""Key of a score's detail: the number of trainings that its interval is over."""


def collect(where: Path, plan: Plan) -> dict[str, Any]:
    """Return the content of results.json; see genjax/report/sweep.py for its form.

    Raises:
      DataError: a file of a run cannot be read.
      ProtocolError: two runs were scored under different protocols.
    """
    settings = [_setting(where, plan, values) for values in plan.settings]
    rows = {run["run"]: [run["score"]] for s in settings for run in s["runs"] if run["score"]}
    evaluation.table(rows)  # refuses scores of different protocols
    for setting in settings:
        found = [run["score"] for run in setting["runs"] if run["score"]]
        setting["score"] = over_seeds(found).to_json() if found else None
        for run in setting["runs"]:
            run["value"] = run["score"].value if run["score"] else None
            del run["score"]
    return {"settings": settings}


def _setting(where: Path, plan: Plan, values: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the runs of one setting."""
    found = [_run(where, plan, point) for point in plan.seeds_of(values)]
    return {"values": values, "name": grid.label(values), "runs": found}


def _run(where: Path, plan: Plan, point: Point) -> dict[str, Any]:
    """Return one run: its directory, seed, error and score."""
    error = runs.failure(where, point)
    score = None if error else runs.measured(where, plan, point)
    return {"run": point.name, "seed": plan.settings_of(point).seed, "error": error, "score": score}


def over_seeds(scores: Sequence[evaluation.Score]) -> evaluation.Score:
    """Return the mean of a score over trainings, with Student's t interval (95%) from two of them on."""
    values = [s.value for s in scores]
    mean, low, high, _ = intervals.of_sets(values)
    return dataclasses.replace(scores[0], value=mean, low=low, high=high, detail={TRAININGS: len(values)})


def write(where: Path, plan: Plan) -> dict[str, Any]:
    """Write results.json; return its content."""
    found = collect(where, plan)
    files.write_json(where / FILE, found)
    return found
