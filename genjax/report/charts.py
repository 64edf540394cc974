"""The comparison's charts: loss curves, quality against cost, and the interval bar of a table's cell."""

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
POINTS = 160


def curves(run: Run) -> dict[str, dict[str, Curve]]:
    """{metric: {split: [(step, value)]}} of everything in metrics.jsonl that is a number."""
    out: dict[str, dict[str, Curve]] = {}
    for record in run.metrics:
        split = str(record.get("split") or "train")
        for name, value in record.items():
            if name in ("step", "seconds", "examples", "examples_per_second") or isinstance(
                value, bool | str | list | dict
            ):
                continue
            value = math.nan if value is None else float(value)
            out.setdefault(name.removeprefix("eval/"), {}).setdefault(split, []).append(
                (record["step"], value)
            )
    return out


def losses(found: dict[str, dict[str, Curve]]) -> dict[str, dict[str, Curve]]:
    """The losses among the curves; where none is called so, the first two."""
    chosen = {k: v for k, v in found.items() if k.rsplit("/", 1)[-1] in ("loss", "objective")}
    return chosen or dict(list(found.items())[:2])


def thin(curve: Curve, most: int = POINTS) -> list[tuple[float, float, float, float]]:
    """At most `most` (step, mean, lowest, highest) of runs of neighbouring points; NaN stays NaN."""
    size = math.ceil(len(curve) / most)
    out = []
    for start in range(0, len(curve), max(size, 1)):
        piece = curve[start : start + size]
        values = [v for _, v in piece if math.isfinite(v)]
        step = sum(s for s, _ in piece) / len(piece)
        if size == 1 or not values:
            value = values[0] if values else math.nan
            out.append((float(step), value, value, value))
        else:
            out.append((step, sum(values) / len(values), min(values), max(values)))
    return out


def loss_chart(run: Run, index: int) -> Html | None:
    """One family's own losses over steps; None where nothing was logged."""
    chosen = losses(curves(run))
    width, height = 340, 212
    thinned = {(m, s): thin(c) for m, splits in chosen.items() for s, c in splits.items()}
    everything = [v for points in thinned.values() for _, v, _, _ in points if math.isfinite(v)]
    if not everything:
        return None
    log = min(everything) > 0 and max(everything) / min(everything) > 30
    reach = [s for points in thinned.values() for s, *_ in points] + [0]
    x = svg.Axis(0, max(max(reach), 1), 44, width - 10)
    y = svg.Axis.over(everything, height - 40, 14, log)
    marks: list[Html] = svg.axes(x, y, "step", "", (4, 4))
    key = []
    for (metric, split), points in thinned.items():
        rank = list(chosen).index(metric)
        held_out = split != "train"
        css = f"line c{index}" if rank == 0 else f"line other o{rank}"
        line = [(x(s), y(v) if math.isfinite(v) else math.nan) for s, v, _, _ in points]
        if held_out:
            dots = [
                tag("circle", cx=a, cy=b, r=2.6, class_=f"dot {css}") for a, b in line if math.isfinite(b)
            ]
            marks.append(tag("g", svg.polyline(line, class_=css + " held"), dots))
        else:
            upper = [(x(s), y(h)) for s, _, _, h in points if math.isfinite(h)]
            lower = [(x(s), y(w)) for s, _, w, _ in points if math.isfinite(w)]
            marks += [svg.band(upper, lower, class_=f"envelope {css}"), svg.polyline(line, class_=css)]
        last = next((v for _, v, _, _ in reversed(points) if math.isfinite(v)), math.nan)
        player = metric.rsplit("/", 1)[0] if "/" in metric and len(chosen) > 1 else ""
        said = " ".join(w for w in (player, "held out" if held_out else "training") if w)
        key.append(
            tag(
                "li",
                tag("i", class_=css + (" held" if held_out else "")),
                f"{said} ",
                tag("b", f"{last:#.3g}"),
            )
        )
    title = f"{run.label}: {', '.join(chosen)} over {max(reach):g} steps"
    return tag(
        "div",
        tag("ul", key, class_="key"),
        svg.picture(width, height, title, tag("title", title), *marks),
    )


def numbers_kept(parameters: Score) -> float:
    """How many numbers a model is: its parameters, or where nothing is learned by gradient, its state."""
    return parameters.value or float(parameters.detail.get("numbers.state") or 0)


@dataclasses.dataclass(frozen=True)
class Dot:
    """One entry in a scatter: a cost and a score."""

    name: str
    index: int
    x: float
    y: Score


def against(dots: Sequence[Dot], quality: Column, x_label: str) -> Html | None:
    """Quality over cost on logarithmic axes, with the interval of each; None for fewer than two dots."""
    dots = [d for d in dots if d.x > 0 and d.y.value > 0]
    if len(dots) < 2:
        return None
    width, height = 400, 300
    floor = quality.cells.get(FLOOR)
    ends = [v for d in dots for v in (d.y.value, *interval(d.y)) if v > 0]
    ends += [v for v in (interval(floor) if floor else ()) if v > 0]
    log = min(ends) * 8 < max(ends)
    x = svg.Axis.over([d.x for d in dots], 48, width - 14, log=True, pad=0.16)
    y = svg.Axis.over(ends, height - 42, 26, log)
    marks: list[Html] = svg.axes(x, y, x_label, f"{quality.label} {quality.arrow}")
    if floor:
        marks.append(_floor(x, y, floor))
    spots = [(x(d.x), y(d.y.value)) for d in dots]
    taken: list[tuple[float, float, float, float]] = [(a - 6, b - 6, a + 6, b + 6) for a, b in spots]
    frame = (x.start, y.end - 8, x.end + 12, y.start)
    for dot, (a, b) in zip(dots, spots, strict=True):
        low, high = interval(dot.y)
        where, anchor = _place(dot.name, a, b, taken, frame)
        marks.append(
            tag(
                "g",
                tag("title", f"{dot.name}: {number(dot.y.value, low, high)} at {number(dot.x)} ({x_label})"),
                tag("line", x1=a, x2=a, y1=y(low), y2=y(high), class_="whisker"),
                tag("circle", cx=a, cy=b, r=5, class_="spot"),
                tag("text", dot.name, x=where[0], y=where[1], class_="mark", text_anchor=anchor),
                class_=f"c{dot.index}",
                data_entry=dot.index,
            )
        )
    return svg.picture(width, height, f"{quality.label} against {x_label}", *marks)


def _floor(x: svg.Axis, y: svg.Axis, floor: Score) -> Html:
    low, high = interval(floor)
    top, foot = y(high), y(low)
    return tag(
        "g",
        tag("rect", x=x.start, width=x.end - x.start, y=top, height=max(foot - top, 1.5), class_="floor"),
        tag("text", "real against real", x=x.end - 4, y=top - 5, class_="tick", text_anchor="end"),
    )


def _place(
    name: str, a: float, b: float, taken: list[tuple[float, float, float, float]], frame: tuple[float, ...]
) -> tuple[tuple[float, float], str]:
    """A place for a dot's name that covers the least of what is drawn; remembers it in `taken`."""
    wide, best = 6.6 * len(name), None
    for dx, dy, anchor in (
        (9, 4, "start"), (-9, 4, "end"), (0, -11, "middle"), (0, 19, "middle"),
        (8, -8, "start"), (-8, -8, "end"), (8, 15, "start"), (-8, 15, "end"),
    ):  # fmt: skip
        left = a + dx - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        box = (left, b + dy - 10, left + wide, b + dy + 3)
        cost = sum(_overlap(box, other) for other in taken)
        outside = max(0, frame[0] - box[0]) + max(0, box[2] - frame[2]) + max(0, frame[1] - box[1])
        cost += 50 * (outside + max(0, box[3] - frame[3]))
        if best is None or cost < best[0] - 1e-9:
            best = (cost, (a + dx, b + dy), anchor, box)
    assert best is not None
    taken.append(best[3])
    return best[1], best[2]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def interval_bar(score: Score, column: Iterable[Score], index: int | None) -> Html:
    """A cell's value and interval on the column's own range (logarithmic where it spans decades)."""
    ends = [v for s in column for v in (s.value, *interval(s))]
    log = min(ends) > 0 and max(ends) / min(ends) > 30
    axis = svg.Axis.over(ends, 3, 77, log, 0.02)
    low, high = (axis(v) for v in interval(score))
    css = f"c{index}" if index is not None else "real"
    return svg.picture(
        80,
        8,
        "",
        tag("line", x1=0, x2=80, y1=4, y2=4, class_="hair"),
        tag("line", x1=low, x2=max(high, low + 0.1), y1=4, y2=4, class_="range")
        if not exact(score)
        else None,
        tag("circle", cx=axis(score.value), cy=4, r=2.7, class_="spot"),
        class_=f"bar {css}",
        aria_hidden="true",
    )
