"""Write the report of a comparison: report.html, one self-contained page, and report.json for programs.

report.json is an object:

    title, dataset, command, budget
    entries      {entry name: {
                   family, run (its directory, relative), description,
                   trainings [{run, seed, steps, seconds}]   one for each seed,
                   status ("waiting", "training", "sampled", "scored" or "failed"),
                   error (why it failed, else an empty string), steps, params,
                   scores {score name: {value, low, high, better, criterion, unit, detail}},
                   curves {metric: {split: [[step, mean], ...]}}   at most 160 points each,
                   knobs (the sampler's options)}}
    floor        {score name: {value, low, high, ...}} of real against real, or null
    best         {score name: the entry that is best and whose interval overlaps no other's, or null}
    protocol     {score name: what all rows of that column have in common}
    intervals    what the intervals cover: the variation of sampling, or that of training
    findings, caveats   the sentences of the page
    features, environment   as in compare.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genjax import __version__, files
from genjax.evaluation.scores import Score
from genjax.report import charts, costs, protocol, runs, samples, sections, words
from genjax.report.page import page, tidy
from genjax.report.tables import FLOOR, Column, columns


def write(directory: str | Path) -> Path:
    """Write report.html and report.json of a comparison, finished or not; return the path of report.html.

    Args:
      directory: written by `genjax compare`: compare.json, the entries' run directories, floor/, real/.

    Raises:
      DataError: a file cannot be read; names it.
      ProtocolError: two scores of one column were measured differently; names the difference.
    """
    comparison = runs.comparison(directory)
    found = columns(comparison)
    text = json.dumps(tidy(as_json(comparison, found)), indent=1, ensure_ascii=False, allow_nan=False)
    files.write_text(comparison.directory / "report.json", text + "\n")
    return files.write_text(comparison.directory / "report.html", _html(comparison, found))


def _html(comparison: runs.Comparison, found: Sequence[Column]) -> str:
    about = comparison.about
    title = str(about.get("title") or about.get("name") or comparison.directory.name)
    kicker = " · ".join(
        w for w in ("genjax comparison", str(about.get("dataset") or ""), protocol.budget(about)) if w
    )
    return page(
        title,
        kicker,
        _stand(comparison),
        samples.hero(comparison, found),
        [
            sections.findings(comparison, found),
            sections.scores(comparison, found),
            sections.alarms(comparison),
            samples.samples(comparison),
            sections.learns(comparison, found),
            costs.costs(comparison, found),
            sections.curves(comparison),
            samples.neighbours(comparison, found),
            sections.likelihoods(comparison, found),
            protocol.protocol(comparison, found),
            protocol.reproduce(about, comparison.entries),
            sections.caveats(comparison, found),
        ],
        f"Written by genjax {__version__} from the files of {comparison.directory.name}/. "
        "The same numbers for programs: report.json.",
    )


def _stand(comparison: runs.Comparison) -> str:
    """Return the paragraph under the headline: the entries, their data and budget, and their progress."""
    about = comparison.about
    count = len(comparison.entries)
    said = f"{words.listed([r.label for r in comparison.entries])}, on the same data"
    said += f" ({about['dataset']})" if about.get("dataset") else ""
    said += f", with {protocol.budget(about)}" if protocol.budget(about) else ""
    said += ", measured under one protocol."
    done = sum(r.status == runs.SCORED for r in comparison.entries)
    rest = [f"{r.label} is {r.state}" for r in comparison.entries if r.pending]
    failed = [f"{r.label} {r.state}" for r in comparison.entries if r.status == runs.FAILED]
    if rest:
        said += f" Not finished: {done} of {count} scored; {words.listed(rest)}."
    elif failed:
        said += f" {done} of {count} scored."
    # Each error is a sentence of its own, which may contain commas.
    each = [said, *(f"{text.rstrip('.')}." for text in failed), words.spent(comparison)]
    return " ".join(text for text in each if text)


def as_json(comparison: runs.Comparison, found: Sequence[Column]) -> dict[str, Any]:
    """Return the content of report.json (see the docstring of the module)."""
    about = comparison.about
    return {
        "title": about.get("title") or about.get("name"),
        "dataset": about.get("dataset"),
        "command": about.get("command"),
        "budget": about.get("budget"),
        "entries": {r.name: _entry(comparison, r) for r in comparison.entries},
        "floor": None if comparison.floor is None else _scores(comparison.floor),
        "best": {c.name: c.best() for c in found},
        "protocol": {c.name: dict(c.of.protocol) for c in found},
        "intervals": words.intervals(comparison),
        "findings": words.findings(comparison, found),
        "caveats": words.caveats(comparison, found),
        "features": about.get("features"),
        "environment": about.get("environment"),
    }


def _entry(comparison: runs.Comparison, run: runs.Run) -> dict[str, Any]:
    params = next((s.value for s in run.scores or () if s.name in ("params", "parameters")), None)
    return {
        "family": run.family,
        "run": _relative(comparison, run),
        "description": run.description,
        "trainings": [
            {
                "run": _relative(comparison, r),
                "seed": r.config.get("seed"),
                "steps": r.progress[0],
                "seconds": r.seconds,
            }
            for r in run.trainings
        ],
        "status": run.status,
        "error": run.error,
        "steps": run.progress[0],
        "params": None if params is None else int(params),
        "scores": _scores(run.scores or ()),
        "curves": _curves(run),
        "knobs": run.options,
    }


def _relative(comparison: runs.Comparison, run: runs.Run) -> str:
    """Return the directory of a run, relative to the comparison's if it lies inside of it."""
    inside = run.directory.is_relative_to(comparison.directory)
    return str(run.directory.relative_to(comparison.directory) if inside else run.directory)


def _curves(run: runs.Run) -> dict[str, Any]:
    """Return {metric: {split: [[step, mean], ...]}}."""
    return {
        metric: {split: [[s, v] for s, v, _, _ in charts.thin(c)] for split, c in splits.items()}
        for metric, splits in charts.curves(run).items()
    }


def _scores(found: Sequence[Score]) -> dict[str, Any]:
    return {s.name: {k: v for k, v in s.to_json().items() if k not in ("name", "protocol")} for s in found}


__all__ = ["FLOOR", "as_json", "write"]
