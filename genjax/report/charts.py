"""Draw the charts of a report: loss curves, quality against cost, and the interval bar of a cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from genjax.evaluation.scores import Score
from genjax.markup import Html, tag
from genjax.report import svg
from genjax.report.runs import Run
from genjax.report.tables import FLOOR, Column, exact, interval, number

Curve = list[tuple[int, float]]
Thinned = tuple[float, float, float, float]
"""(step, mean, lowest, highest) of neighbouring points of a curve."""
Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""
POINTS = 160
"""Points of a curve in a report, at most."""
COUNTERS = ("step", "seconds", "examples", "examples_per_second")
"""Fields of metrics.jsonl that are not metrics."""
PLACES = (
    (9, 4, "start"),
    (-9, 4, "end"),
    (0, -11, "middle"),
    (0, 19, "middle"),
    (8, -8, "start"),
    (-8, -8, "end"),
    (8, 15, "start"),
    (-8, 15, "end"),
)
"""(dx, dy, anchor) of the places where a dot's name may stand, the preferred one first."""


def curves(run: Run) -> dict[str, dict[str, Curve]]:
    """Return {metric: {split: [(step, value)]}} of every number in metrics.jsonl; null becomes NaN."""
    out: dict[str, dict[str, Curve]] = {}
    for record in run.metrics:
        split = str(record.get("split") or "train")
        for name, value in record.items():
            if name in COUNTERS or isinstance(value, bool | str | list | dict):
                continue
            value = math.nan if value is None else float(value)
            curve = out.setdefault(name.removeprefix("eval/"), {}).setdefault(split, [])
            curve.append((record["step"], value))
    return out


def losses(found: dict[str, dict[str, Curve]]) -> dict[str, dict[str, Curve]]:
    """Return the curves that are named loss or objective; the first two if none is."""
    chosen = {k: v for k, v in found.items() if k.rsplit("/", 1)[-1] in ("loss", "objective")}
    return chosen or dict(list(found.items())[:2])


def thin(curve: Curve, most: int = POINTS) -> list[Thinned]:
    """Return at most `most` means of neighbouring points, with their extremes; NaN stays NaN."""
    size = max(math.ceil(len(curve) / most), 1)
    return [_mean(curve[start : start + size]) for start in range(0, len(curve), size)]


def _mean(piece: Curve) -> Thinned:
    values = [v for _, v in piece if math.isfinite(v)]
    step = sum(s for s, _ in piece) / len(piece)
    if not values:
        return step, math.nan, math.nan, math.nan
    return step, sum(values) / len(values), min(values), max(values)


def loss_chart(run: Run, index: int) -> Html | None:
    """Return one family's own losses over steps; None if nothing was logged."""
    chosen = losses(curves(run))
    thinned = {(m, s): thin(c) for m, splits in chosen.items() for s, c in splits.items()}
    everything = [v for points in thinned.values() for _, v, _, _ in points if math.isfinite(v)]
    if not everything:
        return None
    width = 340
    height = 212
    log = min(everything) > 0 and max(everything) / min(everything) > 30
    last = max([s for points in thinned.values() for s, *_ in points] + [1])
    x = svg.Axis(0, last, 44, width - 10)
    y = svg.Axis.over(everything, height - 40, 14, log)
    marks: list[Html] = svg.axes(x, y, "step", "", (4, 4))
    key = []
    for (metric, split), points in thinned.items():
        rank = list(chosen).index(metric)
        css = f"line c{index}" if rank == 0 else f"line other o{rank}"
        held_out = split != "train"
        marks += _held_out(points, x, y, css) if held_out else _training(points, x, y, css)
        player = metric.rsplit("/", 1)[0] if "/" in metric and len(chosen) > 1 else ""
        key.append(_key(player, held_out, points, css))
    title = f"{run.label}: {', '.join(chosen)} over {last:g} steps"
    chart = svg.picture(width, height, title, tag("title", title), *marks)
    return tag("div", tag("ul", key, class_="key"), chart)


def _held_out(points: Sequence[Thinned], x: svg.Axis, y: svg.Axis, css: str) -> list[Html]:
    """Return a dotted line with a dot at each evaluation."""
    line = _line(points, x, y)
    dots = [tag("circle", cx=a, cy=b, r=2.6, class_=f"dot {css}") for a, b in line if math.isfinite(b)]
    return [tag("g", svg.polyline(line, class_=css + " held"), dots)]


def _training(points: Sequence[Thinned], x: svg.Axis, y: svg.Axis, css: str) -> list[Html]:
    """Return a line of means and a band of the extremes."""
    upper = [(x(s), y(high)) for s, _, _, high in points if math.isfinite(high)]
    lower = [(x(s), y(low)) for s, _, low, _ in points if math.isfinite(low)]
    band = svg.band(upper, lower, class_=f"envelope {css}")
    return [band, svg.polyline(_line(points, x, y), class_=css)]


def _line(points: Sequence[Thinned], x: svg.Axis, y: svg.Axis) -> list[tuple[float, float]]:
    return [(x(s), y(v) if math.isfinite(v) else math.nan) for s, v, _, _ in points]


def _key(player: str, held_out: bool, points: Sequence[Thinned], css: str) -> Html:
    """Return the entry of the legend, with the last value."""
    last = next((v for _, v, _, _ in reversed(points) if math.isfinite(v)), math.nan)
    said = " ".join(w for w in (player, "held out" if held_out else "training") if w)
    swatch = tag("i", class_=css + (" held" if held_out else ""))
    return tag("li", swatch, f"{said} ", tag("b", f"{last:#.3g}".rstrip(".")))


def numbers_kept(parameters: Score) -> float:
    """Return the numbers that a model keeps: its parameters, or its state if it learns none by gradient."""
    return parameters.value or float(parameters.detail.get("numbers.state") or 0)


@dataclasses.dataclass(frozen=True)
class Dot:
    """Hold one entry of a scatter plot: a cost and a score."""

    name: str
    index: int
    x: float
    y: Score


def against(dots: Sequence[Dot], quality: Column, x_label: str) -> Html | None:
    """Return quality over cost on logarithmic axes, with intervals; None for fewer than two dots."""
    dots = [d for d in dots if d.x > 0 and d.y.value > 0]
    if len(dots) < 2:
        return None
    width = 400
    height = 300
    floor = quality.cells.get(FLOOR)
    ends = [v for d in dots for v in (d.y.value, *interval(d.y)) if v > 0]
    ends += [v for v in (interval(floor) if floor else ()) if v > 0]
    log = min(ends) * 8 < max(ends)
    x = svg.Axis.over([d.x for d in dots], 48, width - 14, log=True, pad=0.16)
    y = svg.Axis.over(ends, height - 42, 26, log)
    marks: list[Html] = svg.axes(x, y, x_label, f"{quality.label} {quality.arrow}")
    spots = [(x(d.x), y(d.y.value)) for d in dots]
    taken: list[Box] = [(a - 6, b - 6, a + 6, b + 6) for a, b in spots]
    if floor:
        marks.append(_floor(x, y, floor))
        line = y(interval(floor)[1]) - 5
        taken.append((x.end - 88, line - 9, x.end, line + 3))
    frame: Box = (x.start, y.end - 8, x.end + 12, y.start)
    for dot, spot in zip(dots, spots, strict=True):
        where, anchor = _place(dot.name, spot, taken, frame)
        name = tag("text", dot.name, x=where[0], y=where[1], class_="mark", text_anchor=anchor)
        marks.append(_dot(dot, spot, y, name, x_label))
    return svg.picture(width, height, f"{quality.label} against {x_label}", *marks)


def _dot(dot: Dot, spot: tuple[float, float], y: svg.Axis, name: Html, x_label: str) -> Html:
    """Return a dot with its interval and its name."""
    low, high = interval(dot.y)
    said = f"{dot.name}: {number(dot.y.value, low, high)} at {number(dot.x)} ({x_label})"
    return tag(
        "g",
        tag("title", said),
        tag("line", x1=spot[0], x2=spot[0], y1=y(low), y2=y(high), class_="whisker"),
        tag("circle", cx=spot[0], cy=spot[1], r=5, class_="spot"),
        name,
        class_=f"c{dot.index}",
        data_entry=dot.index,
    )


def _floor(x: svg.Axis, y: svg.Axis, floor: Score) -> Html:
    low, high = interval(floor)
    top = y(high)
    height = max(y(low) - top, 1.5)
    return tag(
        "g",
        tag("rect", x=x.start, width=x.end - x.start, y=top, height=height, class_="floor"),
        tag("text", "real against real", x=x.end - 4, y=top - 5, class_="tick", text_anchor="end"),
    )


def _place(
    name: str, spot: tuple[float, float], taken: list[Box], frame: Box
) -> tuple[tuple[float, float], str]:
    """Return where a dot's name covers the least, and its anchor; the place is appended to `taken`."""
    wide = 6.6 * len(name)
    before = {"start": 0, "middle": wide / 2, "end": wide}

    def box(place: tuple[float, float, str]) -> Box:
        dx, dy, anchor = place
        left = spot[0] + dx - before[anchor]
        return left, spot[1] + dy - 10, left + wide, spot[1] + dy + 3

    def cost(place: tuple[float, float, str]) -> float:
        # Rounding makes places that cost the same compare equal, so that the preferred one is taken.
        own = box(place)
        return round(sum(_overlap(own, other) for other in taken) + 50 * _outside(own, frame), 6)

    best = min(PLACES, key=cost)
    taken.append(box(best))
    return (spot[0] + best[0], spot[1] + best[1]), best[2]


def _outside(box: Box, frame: Box) -> float:
    """Return how far a box reaches beyond a frame, all sides together."""
    across = max(0.0, frame[0] - box[0]) + max(0.0, box[2] - frame[2])
    return across + max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])


def _overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def interval_bar(score: Score, column: Iterable[Score], index: int | None) -> Html:
    """Return a value and its interval on the column's own range, logarithmic if that spans decades."""
    ends = [v for s in column for v in (s.value, *interval(s))]
    log = min(ends) > 0 and max(ends) / min(ends) > 30
    axis = svg.Axis.over(ends, 3, 77, log, 0.02)
    low, high = (axis(v) for v in interval(score))
    css = f"c{index}" if index is not None else "real"
    ground = tag("line", x1=0, x2=80, y1=4, y2=4, class_="hair")
    span = tag("line", x1=low, x2=max(high, low + 0.1), y1=4, y2=4, class_="range")
    spot = tag("circle", cx=axis(score.value), cy=4, r=2.7, class_="spot")
    marks = (ground, None if exact(score) else span, spot)
    return svg.picture(80, 8, "", *marks, class_=f"bar {css}", aria_hidden="true")
