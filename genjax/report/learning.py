"""How fast each family learns, where all minimise one quantity: held-out loss over tokens and seconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from genjax.markup import Html, tag
from genjax.report import svg
from genjax.report.runs import Comparison, Run
from genjax.report.tables import Column, number

WIDTH, HEIGHT, ROOM = 460, 320, 96


@dataclasses.dataclass(frozen=True)
class Point:
    """One evaluation in training: what had been spent, and the held-out nats a token."""

    tokens: float
    seconds: float
    loss: float


def column(columns: Sequence[Column]) -> Column | None:
    """The exact likelihood of sequences, in which families can be compared while they learn."""
    names = ("nats_per_token/exact", "nats_per_frame/exact")
    return next((c for c in columns if c.name in names), None)


def points(run: Run) -> list[Point]:
    """The evaluations that training logged: the first phase's loss on the eval split."""
    batch = int((run.config.get("data") or {}).get("batch") or 0)
    spec = (run.dataset.get("spec") or {}).get("elements") or {}
    length = int((spec.get("tokens") or spec.get("roll") or {}).get("shape", [2])[0]) - 1
    found = []
    for record in run.metrics:
        if record.get("split") != "eval":
            continue
        loss = next(
            (v for k, v in record.items() if k.endswith("/loss") and isinstance(v, int | float)), None
        )
        if loss is not None and math.isfinite(loss):
            spent = record["step"] * batch * length
            found.append(Point(float(spent), float(record.get("seconds") or 0), float(loss)))
    return found


def chart(comparison: Comparison, axis: str, label: str) -> Html | None:
    """Every family's held-out loss over "tokens" or "seconds" (logarithmic), named at its last point."""
    lines = {i: [p for p in points(r) if getattr(p, axis) > 0] for i, r in enumerate(comparison.entries)}
    lines = {i: line for i, line in lines.items() if line}
    if len(lines) < 2:
        return None
    xs = [getattr(p, axis) for line in lines.values() for p in line]
    losses = [p.loss for line in lines.values() for p in line]
    x = svg.Axis.over(xs, 48, WIDTH - ROOM, log=True)
    y = svg.Axis.over(losses, HEIGHT - 42, 26, log=max(losses) > 4 * min(losses))
    marks: list[Html] = svg.axes(x, y, label, "held-out nats ↓")
    ends = _apart({i: y(line[-1].loss) for i, line in lines.items()})
    for i, line in lines.items():
        run, css, last = comparison.entries[i], f"line c{i % 8}", line[-1]
        path = [(x(getattr(p, axis)), y(p.loss)) for p in line]
        dots = [tag("circle", cx=a, cy=b, r=2.6, class_=f"dot {css}") for a, b in path]
        said = f"{run.label}: {number(last.loss)} after {number(getattr(last, axis))} {label}"
        marks.append(
            tag(
                "g",
                tag("title", said),
                svg.polyline(path, class_=css),
                dots,
                tag("text", run.label, x=x.end + 8, y=ends[i] + 4, class_="mark"),
                class_=f"c{i % 8}",
                data_entry=i % 8,
            )
        )
    return svg.picture(WIDTH, HEIGHT, f"held-out loss over {label}", *marks)


def _apart(places: dict[int, float], least: float = 14.0) -> dict[int, float]:
    """The names' heights, moved down as far as they would cover each other."""
    out, free = {}, -math.inf
    for i, place in sorted(places.items(), key=lambda item: item[1]):
        out[i] = free = max(place, free + least)
    return out


def section(comparison: Comparison, columns: Sequence[Column]) -> tuple[str, list[Html]] | None:
    """(what the reader should know, the panels); None where families have no loss in common."""
    if column(columns) is None:
        return None
    panels = [
        tag("figure", panel, class_="card")
        for axis, label in (("tokens", "training tokens"), ("seconds", "training seconds"))
        if (panel := chart(comparison, axis, label)) is not None
    ]
    if not panels:
        return None
    lead = (
        "Every family here minimises one quantity, nats for each held-out token or frame, so that their "
        "curves may share a picture. In training each row is read from nothing, without what came before it."
    )
    return lead, panels
