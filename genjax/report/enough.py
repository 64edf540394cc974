"""Say which models and columns no statement is made about: too few steps, sample sets or trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from genjax.report.runs import SCORED, Comparison, Run
from genjax.report.tables import Column

STEPS = 0.5
"""A model needs this fraction of the steps that its config asks for."""
FEWEST = 100
"""A model that is learned by gradient needs so many steps, whatever its config asks for."""


def few_steps(run: Run) -> str:
    """Return why a model was trained for too few steps; an empty string if it was not."""
    if run.status != SCORED:
        return ""
    steps = min(r.progress[0] for r in run.trainings)
    if steps < STEPS * run.asked:
        return f"it took {steps} of the {run.asked} steps that its config asks for"
    learned = any(s.name == "parameters" and s.value > 0 for s in run.scores or ())
    if learned and 0 < steps < FEWEST:
        return f"it took {steps} steps, and a model that is learned by gradient needs at least {FEWEST}"
    return ""


def claimable(comparison: Comparison, columns: Sequence[Column]) -> list[Column]:
    """Return the columns, and in them the entries, that statements on quality can be made about."""
    few = {run.name for run in comparison.entries if few_steps(run)}
    kept = [c for c in columns if not c.uncertain]
    return [dataclasses.replace(c, cells={k: s for k, s in c.cells.items() if k not in few}) for c in kept]


def withheld(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """Return a sentence for each model, and one for the columns, that no statement is made about."""
    said = []
    for run in comparison.entries:
        if reason := few_steps(run):
            said.append(f"No statement is made on the quality of {run.label}: {reason}.")
    uncertain: dict[str, list[str]] = {}
    for column in columns:
        if column.uncertain and len(column.measured) > 1:
            uncertain.setdefault(column.uncertain, []).append(column.label)
    for reason, labels in uncertain.items():
        said.append(f"No statement is made on these scores, because {reason}: {', '.join(labels)}.")
    return said
