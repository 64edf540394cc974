"""State what the numbers depend on, and how to produce them again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from genjax.markup import Html, tag
from genjax.report import layout
from genjax.report.runs import Comparison, Run
from genjax.report.tables import Column, number

UNITS = {
    "seconds": "seconds of training each",
    "steps": "steps each",
    "examples": "training rows each",
    "flops": "FLOPs of training each",
}


def protocol(comparison: Comparison, columns: Sequence[Column]) -> Html:
    """Return everything that the numbers depend on."""
    by_column = tag("table", tag("tbody", [_column_row(c) for c in columns]))
    details = tag("details", tag("summary", "The protocol of each column"), by_column) if columns else None
    heads = ("Entry", "", "Sampler", "Seed", "Steps")
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in heads]))
    body = tag("tbody", [_entry_row(i, r) for i, r in enumerate(comparison.entries)])
    table = tag("div", tag("table", head, body), class_="scroll")
    general = layout.definitions(_general(comparison))
    return layout.section("protocol", "Protocol", None, general, table, details)


def _general(comparison: Comparison) -> dict[str, Any]:
    about = comparison.about
    dataset = next((r.dataset for r in comparison.entries if r.dataset), {})
    return {
        "dataset": about.get("dataset"),
        "fingerprint": dataset.get("fingerprint"),
        "budget": budget(about),
        **{f"features: {k}": v for k, v in (about.get("features") or {}).items()},
        **{f"evaluation: {k}": v for k, v in (about.get("evaluate") or {}).items()},
    }


def _column_row(column: Column) -> Html:
    stated = ", ".join(f"{k} {v}" for k, v in column.of.protocol.items())
    return tag("tr", tag("th", column.label, scope="row"), tag("td", stated))


def _entry_row(index: int, run: Run) -> Html:
    return tag(
        "tr",
        tag("th", tag("i", class_=f"c c{index % 8}"), run.label, scope="row"),
        tag("td", run.description),
        tag("td", ", ".join(f"{k} {v}" for k, v in run.options.items()) or "defaults"),
        tag("td", ", ".join(str(r.config.get("seed", "")) for r in run.trainings)),
        tag("td", ", ".join(layout.thousands(r.progress[0]) for r in run.trainings)),
    )


def reproduce(about: dict[str, Any], runs: Sequence[Run]) -> Html:
    """Return the command, the versions, and every config with its defaults filled in."""
    configs = [
        tag(
            "details",
            tag("summary", run.label, " ", tag("small", f"{run.directory.name}/config.json")),
            tag("pre", json.dumps(run.config, indent=2, ensure_ascii=False)),
        )
        for run in runs
        if run.config
    ]
    command = tag("pre", about["command"], class_="command") if about.get("command") else None
    environment = layout.definitions(about.get("environment") or {})
    return layout.section("reproduce", "Reproduce", None, command, environment, configs)


def budget(about: dict[str, Any]) -> str:
    """Return the budget in words; an empty string without one."""
    found = about.get("budget") or {}
    if not found.get("value"):
        return ""
    value = found["value"]
    amount = number(float(value)) if isinstance(value, int | float) else str(value)
    kind = str(found.get("kind"))
    return f"{amount} {UNITS.get(kind, kind)}"
