"""A comparison's report: report.html, one self-contained page, and report.json, the same for programs.

report.json is an object:

    title, dataset, command, budget
    entries      {entry name: {
                   family, run (its directory, relative), description,
                   status ("waiting", "training", "sampled" or "scored"), steps, params,
                   scores {score name: {value, low, high, better, criterion, unit, detail}},
                   curves {metric: {split: [[step, mean], ...]}}   at most 160 points each,
                   knobs (the sampler's settings)}}
    floor        {score name: {value, low, high, ...}} of real against real, or null
    best         {score name: the entry that is best and whose interval overlaps no other's, or null}
    protocol     {score name: what all rows of that column have in common}
    findings, caveats   the sentences of the page
    features, environment   as in compare.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genjax import __version__
from genjax.evaluation.scores import Score
from genjax.report import charts, runs, sections, words
from genjax.report.page import page, tidy, write_text
from genjax.report.tables import FLOOR, Column, columns


def write(directory: str | Path) -> Path:
    """Writes report.html and report.json of a comparison, finished or not; returns the page's path.

    Args:
      directory: what `genjax compare` writes: compare.json, the entries' run directories, floor/, real/.

    Raises:
      DataError: a file cannot be read; names it.
      ProtocolError: two scores of one column were measured differently; names the difference.
    """
    comparison = runs.comparison(directory)
    found = columns(comparison)
    text = json.dumps(tidy(as_json(comparison, found)), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(comparison.directory / "report.json", text + "\n")
    return write_text(comparison.directory / "report.html", _html(comparison, found))


def _html(comparison: runs.Comparison, found: Sequence[Column]) -> str:
    about = comparison.about
    title = str(about.get("title") or about.get("name") or comparison.directory.name)
    kicker = " · ".join(
        w for w in ("genjax comparison", str(about.get("dataset") or ""), sections.budget(about)) if w
    )
    return page(
        title,
        kicker,
        _stand(comparison),
        sections.hero(comparison, found),
        [
            sections.says(comparison, found),
            sections.scores(comparison, found),
            sections.samples(comparison),
            sections.learns(comparison, found),
            sections.costs(comparison, found),
            sections.curves(comparison),
            sections.neighbours(comparison, found),
            sections.likelihoods(comparison, found),
            sections.protocol(comparison, found),
            sections.reproduce(about, comparison.entries),
            sections.caveats(comparison, found),
        ],
        f"Written by genjax {__version__} from the files of {comparison.directory.name}/. "
        "The same numbers for programs: report.json.",
    )


def _stand(comparison: runs.Comparison) -> str:
    """The paragraph under the headline: what was compared, and how far it is."""
    about = comparison.about
    count = len(comparison.entries)
    said = f"{words.listed([r.label for r in comparison.entries])}, on the same data"
    said += f" ({about['dataset']})" if about.get("dataset") else ""
    said += f", with {sections.budget(about)}" if sections.budget(about) else ""
    said += ", judged by one protocol."
    done = sum(r.status == runs.SCORED for r in comparison.entries)
    if done < count:
        rest = [f"{r.label} is {r.state}" for r in comparison.entries if r.status != runs.SCORED]
        said += f" Not finished: {done} of {count} scored; {words.listed(rest)}."
    return said


def as_json(comparison: runs.Comparison, found: Sequence[Column]) -> dict[str, Any]:
    """The comparison as report.json has it (see the module's docstring)."""
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
        "findings": words.findings(comparison, found),
        "caveats": words.caveats(comparison, found),
        "features": about.get("features"),
        "environment": about.get("environment"),
    }


def _entry(comparison: runs.Comparison, run: runs.Run) -> dict[str, Any]:
    params = next((s.value for s in run.scores or () if s.name in ("params", "parameters")), None)
    return {
        "family": run.family,
        "run": str(run.directory.relative_to(comparison.directory))
        if run.directory.is_relative_to(comparison.directory)
        else str(run.directory),
        "description": run.description,
        "status": run.status,
        "steps": run.progress[0],
        "params": None if params is None else int(params),
        "scores": _scores(run.scores or ()),
        "curves": {
            metric: {split: [[s, v] for s, v, _, _ in charts.thin(c)] for split, c in splits.items()}
            for metric, splits in charts.curves(run).items()
        },
        "knobs": run.knobs,
    }


def _scores(found: Sequence[Score]) -> dict[str, Any]:
    return {s.name: {k: v for k, v in s.to_json().items() if k not in ("name", "protocol")} for s in found}


__all__ = ["FLOOR", "as_json", "write"]
