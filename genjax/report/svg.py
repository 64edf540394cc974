"""Draw axes and marks of charts: SVG that takes its colours from the page's CSS variables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from genjax.markup import Html, tag
from genjax.report.tables import number


@dataclasses.dataclass(frozen=True)
class Axis:
    """Map [low, high] of the data to [start, end] of the picture, linearly or logarithmically."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log: bool = False, pad: float = 0.06):
        """Return an axis that holds all finite values (positive ones on a log scale), with a margin."""
        kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low = min(kept)
        high = max(kept)
        if log:
            margin = max((math.log10(high) - math.log10(low)) * pad, 0.08)
            return cls(low / 10**margin, high * 10**margin, start, end, True)
        margin = (high - low) * pad or abs(high) * 0.1 or 1.0
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Return the position of a value, clipped to the axis."""
        if self.log:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, part)) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values inside the axis."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        rough = (self.high - self.low) / max(most, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, first + most + 2) if n * step <= self.high * (1 + 1e-12)]

    def _log_ticks(self, most: int) -> list[float]:
        low = math.floor(math.log10(self.low))
        high = math.ceil(math.log10(self.high))
        for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            ticks = [m * 10.0**p for p in range(low, high + 1) for m in multiples]
            ticks = [t for t in ticks if self.low <= t <= self.high]
            if len(ticks) >= 3:
                break
        else:
            return next(t for n in range(3, 40) if len(t := self._linear_ticks(n)) > 1)
        return ticks[:: math.ceil(len(ticks) / most)]


def label_of(value: float) -> str:
    """Write the value of a tick in few characters."""
    text = number(value) if value == 0 or abs(value) >= 1e4 or abs(value) < 1e-3 else f"{value:g}"
    return text.removeprefix("1\u202f×\u202f").replace("-", "−")


def polyline(points: Sequence[tuple[float, float]], **attributes: object) -> Html:
    """Return a path through the points; a NaN interrupts it."""
    parts = []
    pen = "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return tag("path", d="".join(parts), fill="none", **attributes)


def band(
    upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], **attributes: object
) -> Html:
    """Return the area between two lines over the same points."""
    around = [p for p in (*upper, *reversed(lower)) if all(map(math.isfinite, p))]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in around) + "Z" if around else ""
    return tag("path", d=path, **attributes)


def axes(x: Axis, y: Axis, x_label: str, y_label: str, ticks: tuple[int, int] = (5, 5)) -> list[Html]:
    """Return hairlines and tick labels: horizontals through the picture, ticks along the foot."""
    marks = [*(_level(x, y(t), label_of(t)) for t in y.ticks(ticks[1]))]
    marks += [_notch(x(t), y.start, label_of(t)) for t in x.ticks(ticks[0])]
    marks.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    if x_label:
        marks.append(tag("text", x_label, x=x.end, y=y.start + 32, class_="name", text_anchor="end"))
    if y_label:
        marks.append(tag("text", y_label, x=2, y=y.end - 10, class_="name"))
    return marks


def _level(x: Axis, at: float, text: str) -> Html:
    """Return a horizontal line with its label."""
    line = tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="hair")
    return tag("g", line, tag("text", text, x=x.start - 6, y=at + 3.5, class_="tick", text_anchor="end"))


def _notch(at: float, foot: float, text: str) -> Html:
    """Return a tick of the horizontal axis with its label."""
    line = tag("line", x1=at, x2=at, y1=foot, y2=foot + 4, class_="axis")
    return tag("g", line, tag("text", text, x=at, y=foot + 16, class_="tick", text_anchor="middle"))


def picture(width: float, height: float, title: str, *marks: object, **attributes: object) -> Html:
    """Return the svg element; `title` is its accessible name."""
    return tag(
        "svg",
        *marks,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        **attributes,
    )
