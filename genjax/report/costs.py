"""Plot quality against what it cost: training FLOPs, seconds, sampling time and size."""

from __future__ import annotations

from collections.abc import Sequence

from genjax.markup import Html, tag
from genjax.report import charts, layout
from genjax.report.runs import Comparison
from genjax.report.tables import Column, find, quality

Axis = tuple[str, dict[str, float]]
"""(axis label, {entry: cost})."""


def costs(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return the charts of quality against each cost; None without two entries that have both."""
    measured = quality(columns)
    if measured is None:
        return None
    panels = []
    for label, cost in cost_axes(comparison, columns):
        dots = [
            charts.Dot(r.label, i % 8, cost[r.name], measured.cells[r.name])
            for i, r in enumerate(comparison.entries)
            if r.name in cost and r.name in measured.cells
        ]
        chart = charts.against(dots, measured, label)
        if chart is not None:
            panels.append(tag("figure", chart, class_="card"))
    if not panels:
        return None
    way = "lower" if measured.better == "lower" else "higher"
    lead = (
        f"{measured.label} ({way} is better) over what it cost. Whiskers are the intervals. The grey band "
        "is the score of real data against real data: no improvement beyond it can be measured."
    )
    return layout.section("cost", "Quality against cost", lead, layout.cards(panels))


def cost_axes(comparison: Comparison, columns: Sequence[Column]) -> list[Axis]:
    """Return (axis label, {entry: cost}) of the costs that were measured."""
    found = [c for c in columns if c.criterion == "cost"]
    axes = [_flops(comparison, found), _seconds(comparison, found), _sampling(found), _size(found)]
    return [axis for axis in axes if axis is not None]


def _flops(comparison: Comparison, found: Sequence[Column]) -> Axis | None:
    """Return training FLOPs: those per example times the examples seen."""
    flops = find(found, "train", "flop")
    if flops is None:
        return None
    if "example" not in flops.unit:
        return _named(flops), _values(flops)
    seen = {r.name: r.examples for r in comparison.entries}
    return "Training FLOPs", {name: each * seen[name] for name, each in _values(flops).items() if seen[name]}


def _seconds(comparison: Comparison, found: Sequence[Column]) -> Axis:
    """Return training seconds: as scored, else as logged."""
    seconds = find(found, "train", "second")
    if seconds is not None:
        return _named(seconds), _values(seconds)
    last = {
        r.name: max((float(m.get("seconds") or 0) for m in r.metrics), default=0) for r in comparison.entries
    }
    return "Training seconds", {name: value for name, value in last.items() if value > 0}


def _sampling(found: Sequence[Column]) -> Axis | None:
    """Return seconds per sample: as scored, else from the rate at the largest batch."""
    rate = [c for c in found if "per_second" in c.name and "sample" in c.name]
    direct = find([c for c in found if c not in rate], "sampl", "second")
    if direct is not None:
        return _named(direct), _values(direct)
    if not rate:
        return None
    values = {name: 1 / value for name, value in _values(rate[-1]).items() if value > 0}
    return f"Seconds per sample (1 / {rate[-1].label.lower()})", values


def _size(found: Sequence[Column]) -> Axis | None:
    """Return the numbers that each model keeps; None if all keep the same."""
    sizes = find(found, "parameters")
    kept = {name: charts.numbers_kept(s) for name, s in (sizes.measured if sizes else {}).items()}
    return ("Parameters (of counting models: numbers kept)", kept) if len({*kept.values()}) > 1 else None


def _named(column: Column) -> str:
    """Return the heading with the unit, unless the heading contains it."""
    stated = not column.unit or column.unit.lower() in column.label.lower()
    return column.label if stated else f"{column.label} ({column.unit})"


def _values(column: Column) -> dict[str, float]:
    return {name: score.value for name, score in column.measured.items()}
