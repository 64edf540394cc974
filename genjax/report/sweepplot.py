"""Plot the score of a sweep against each of the fields that vary."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from genjax.evaluation.scores import Score
from genjax.markup import Html, tag
from genjax.report import svg
from genjax.report.tables import interval, number

WIDTH = 460
HEIGHT = 300
COLOURS = 8
ENOUGH = 3
"""Runs that an interval needs to be drawn."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold one run: its directory, seed, score (None until it is finished) and error (empty without one)."""

    name: str
    seed: int
    value: float | None
    error: str


@dataclasses.dataclass(frozen=True)
class Setting:
    """Hold one setting of a sweep: its values, its runs, and the mean of their scores (None without any)."""

    values: dict[str, Any]
    label: str
    score: Score | None
    runs: tuple[Run, ...]

    @property
    def finished(self) -> int:
        """The number of runs that have a score."""
        return sum(run.value is not None for run in self.runs)

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Setting:
        """Return a setting of results.json. Raises KeyError, TypeError or ValueError for something else."""
        runs = tuple(Run(r["run"], int(r["seed"]), r["value"], str(r["error"])) for r in held["runs"])
        score = None if held["score"] is None else Score.from_json(held["score"])
        return cls(dict(held["values"]), str(held["name"]), score, runs)


def shown(x: Any) -> str:
    """Write the value of a field."""
    return f"{x:.6g}" if isinstance(x, float) else str(x)


@dataclasses.dataclass(frozen=True)
class Places:
    """Map the values of a field to the horizontal axis: numbers along a scale, others side by side."""

    axis: svg.Axis
    names: tuple[str, ...] = ()

    @classmethod
    def over(cls, values: Sequence[Any], scale: str | None, start: float, end: float) -> Places:
        """Return the places of a field's values; logarithmic if they were drawn so or span decades."""
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            positive = min(values) > 0
            log = positive and (scale == "log" or (scale is None and max(values) >= 8 * min(values)))
            return cls(svg.Axis.over(values, start, end, log, 0.1))
        names = tuple(dict.fromkeys(shown(v) for v in values))
        return cls(_Slots(-0.5, len(names) - 0.5, start, end), names)

    def __call__(self, value: Any) -> float:
        """Return the position of a value."""
        return self.axis(self.names.index(shown(value)) if self.names else value)


def panels(
    settings: Sequence[Setting], fields: Sequence[str], scales: Mapping[str, str], label: str
) -> list[Html]:
    """Return a chart of the score against each field.

    Args:
      scales: {field: "uniform" or "log"} of the fields that were drawn from a range.
      label: of the score.
    """
    return [
        tag("figure", _panel(settings, field, scales.get(field), label), class_="card") for field in fields
    ]


class _Slots(svg.Axis):
    """Hold places side by side, which have names and no ticks."""

    def ticks(self, most: int = 5) -> list[float]:
        """Return no ticks."""
        return []


def _panel(settings: Sequence[Setting], field: str, scale: str | None, label: str) -> Html:
    groups = _groups(settings, field)
    x = Places.over([s.values[field] for s in settings], scale, 52, WIDTH - 14)
    values = [run.value for s in settings for run in s.runs if run.value is not None]
    ends = _ends(settings, values)
    y = svg.Axis.over(ends, HEIGHT - 42, 30, log=min(ends) > 0 and max(ends) > 8 * min(ends))
    marks: list[Html] = svg.axes(x.axis, y, field, label)
    marks += [_name(x(name), y.start, name) for name in x.names]
    shift = _shifts(len(groups))
    for index, group in enumerate(groups):
        colour = index % COLOURS
        place = {s.label: x(s.values[field]) + shift[index] for s in group.settings}
        if group.joined:
            marks += _line(group.settings, place, y, colour)
        marks += [_setting(s, place[s.label], y, colour) for s in group.settings]
    key = [tag("li", tag("i", class_=f"c{i % COLOURS}"), g.name) for i, g in enumerate(groups) if g.name]
    chart = svg.picture(WIDTH, HEIGHT, f"{label} against {field}", *marks)
    return tag("div", tag("ul", key, class_="key") if key else None, chart)


@dataclasses.dataclass(frozen=True)
class Group:
    """Hold settings of one colour: the other fields' values in words, and whether a line joins the means."""

    name: str
    settings: Sequence[Setting]
    joined: bool


def _groups(settings: Sequence[Setting], field: str) -> list[Group]:
    """Return the settings that differ in one field alone, joined, in the order of its values.

    They are one group that is not joined, if groups would have one setting each or there are too many.
    """
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        others = {k: v for k, v in setting.values.items() if k != field}
        name = ", ".join(f"{k.rpartition('.')[2]} {shown(v)}" for k, v in others.items())
        found.setdefault(name, []).append(setting)
    if len(found) > COLOURS or (len(found) > 1 and any(len(group) < 2 for group in found.values())):
        return [Group("", settings, False)]
    return [Group(name, _ordered(group, field), True) for name, group in found.items()]


def _ordered(group: Sequence[Setting], field: str) -> list[Setting]:
    """Return settings in the order of a field's values, if these are numbers."""
    numeric = all(isinstance(s.values[field], int | float) for s in group)
    return sorted(group, key=lambda s: s.values[field]) if numeric else list(group)


def _shifts(count: int) -> list[float]:
    """Return how far each line is moved sideways, in pixels, so that intervals do not cover each other."""
    return [5.0 * (i - (count - 1) / 2) for i in range(count)]


def _ends(settings: Sequence[Setting], values: Sequence[float]) -> list[float]:
    """Return what the vertical axis holds: all values, and intervals as far as they are not much wider."""
    low = min(values)
    high = max(values)
    reach = (high - low) or abs(high) * 0.1
    drawn = [v for s in settings if s.score is not None and _has_interval(s) for v in interval(s.score)]
    kept = [min(max(v, low - reach), high + reach) for v in drawn]
    # An interval of positive values may reach below zero, where a logarithmic axis has no place.
    return [*values, *(v for v in kept if v > 0 or low <= 0)]


def _has_interval(setting: Setting) -> bool:
    return setting.finished >= ENOUGH


def _line(line: Sequence[Setting], place: Mapping[str, float], y: svg.Axis, colour: int) -> list[Html]:
    """Return the line through the means; nothing for points above each other."""
    points = [(place[s.label], y(s.score.value)) for s in line if s.score is not None]
    distinct = len({a for a, _ in points}) == len(points) > 1
    return [svg.polyline(points, class_=f"line c{colour}")] if distinct else []


def _setting(setting: Setting, at: float, y: svg.Axis, colour: int) -> Html:
    """Return the mean of a setting with its interval, the runs as small dots, and a cross for failures."""
    marks: list[Html] = []
    said = f"{setting.label}: no finished run"
    if any(run.error for run in setting.runs):
        marks.append(tag("text", "×", x=at, y=y.end - 2, class_="mark", text_anchor="middle"))
    for run in setting.runs:
        if run.value is not None and math.isfinite(run.value):
            marks.append(tag("circle", cx=at, cy=y(run.value), r=2.4, class_=f"dot line c{colour}"))
    score = setting.score
    if score is not None:
        low, high = interval(score)
        said = f"{setting.label}: {number(score.value, score.low, score.high)}"
        if _has_interval(setting):
            said += f" ({number(low)} to {number(high)})"
            marks.append(tag("line", x1=at, x2=at, y1=y(low), y2=y(high), class_="whisker"))
        marks.append(tag("circle", cx=at, cy=y(score.value), r=4.5, class_="spot"))
    return tag("g", tag("title", said), marks, class_=f"c{colour}")


def _name(at: float, foot: float, name: str) -> Html:
    """Return the name of a value that is no number, under the axis."""
    return tag("text", name, x=at, y=foot + 16, class_="tick", text_anchor="middle")
