"""Plot held-out loss over tokens and seconds, if all families minimise the same quantity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from genjax import kinds
from genjax.markup import Html, tag
from genjax.report import svg
from genjax.report.runs import Comparison, Run
from genjax.report.tables import Column, coherence, number
from genjax.spec import Spec

WIDTH = 460
HEIGHT = 320
MARGIN = 96
"""Pixels to the right of the curves, for their names."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Hold one evaluation during training: what had been spent, and the held-out nats per token."""

    units: float
    seconds: float
    loss: float


def points(run: Run) -> list[Point]:
    """Return the evaluations that training logged: the first phase's loss on the eval split."""
    each = run.batch * tokens_per_row(run.spec)
    found = []
    for record in run.metrics:
        if record.get("split") != "eval":
            continue
        losses = [v for k, v in record.items() if k.endswith("/loss") and isinstance(v, int | float)]
        if losses and math.isfinite(losses[0]):
            seconds = float(record.get("seconds") or 0)
            found.append(Point(float(record["step"] * each), seconds, float(losses[0])))
    return found


def tokens_per_row(spec: Spec) -> int:
    """Return how many tokens or frames of the main target are predicted in a row; 1 if it has no length."""
    name = kinds.main_target(spec)
    kind = kinds.of(spec[name]) if name else None
    if name is None or kind is None or not spec[name].shape:
        return 1
    return max(spec[name].shape[0] - kind.RUNNING, 1)


def chart(comparison: Comparison, axis: str, label: str) -> Html | None:
    """Return every family's held-out loss over "units" or "seconds" (logarithmic); None below two lines."""
    found = {i: [p for p in points(r) if getattr(p, axis) > 0] for i, r in enumerate(comparison.entries)}
    lines = {i: line for i, line in found.items() if line}
    if len(lines) < 2:
        return None
    losses = [p.loss for line in lines.values() for p in line]
    x = svg.Axis.over(
        [getattr(p, axis) for line in lines.values() for p in line], 48, WIDTH - MARGIN, log=True
    )
    y = svg.Axis.over(losses, HEIGHT - 42, 26, log=max(losses) > 4 * min(losses))
    marks: list[Html] = svg.axes(x, y, label, "held-out nats ↓")
    heights = _apart({i: y(line[-1].loss) for i, line in lines.items()})
    for i, line in lines.items():
        name = comparison.entries[i].label
        path = [(x(getattr(p, axis)), y(p.loss)) for p in line]
        said = f"{name}: {number(line[-1].loss)} after {number(getattr(line[-1], axis))} {label}"
        mark = tag("text", name, x=x.end + 8, y=heights[i] + 4, class_="mark")
        marks.append(_curve(path, said, mark, i % 8))
    return svg.picture(WIDTH, HEIGHT, f"held-out loss over {label}", *marks)


def _curve(path: Sequence[tuple[float, float]], said: str, mark: Html, index: int) -> Html:
    """Return one family's line with a dot at each evaluation, and its name."""
    css = f"line c{index}"
    dots = [tag("circle", cx=a, cy=b, r=2.6, class_=f"dot {css}") for a, b in path]
    line = svg.polyline(path, class_=css)
    return tag("g", tag("title", said), line, dots, mark, class_=f"c{index}", data_entry=index)


def _apart(places: dict[int, float], least: float = 14.0) -> dict[int, float]:
    """Return the heights of the names, moved down where they would cover each other."""
    out = {}
    free = -math.inf
    for i, place in sorted(places.items(), key=lambda item: item[1]):
        out[i] = free = max(place, free + least)
    return out


def section(comparison: Comparison, columns: Sequence[Column]) -> tuple[str, list[Html]] | None:
    """Return (an introduction, the panels); None if the families have no loss in common."""
    if coherence(columns) is None:
        return None
    panels = [
        tag("figure", panel, class_="card")
        for axis, label in (("units", "training tokens"), ("seconds", "training seconds"))
        if (panel := chart(comparison, axis, label)) is not None
    ]
    if not panels:
        return None
    lead = (
        "Every family here minimises the same quantity, nats per token or frame, so their curves can share "
        "a chart. During training each row is read by itself, without the text that precedes it."
    )
    return lead, panels
