"""A kind of data outside the package: one-dimensional signals (samples), real-valued, drawn as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from genjax import files
from genjax.kinds import Field, Unit
from genjax.markup import Html, tag

UNIT = Unit("nats_per_sample", "Nats per sample", "nats", "realism")
SUFFIX = ".png"
SHOWN = 6
"""Signals that are drawn."""
WIDTH = 240
HEIGHT = 60


def preview(field: Field, captions: Sequence[str] | None = None) -> Image.Image:
    """Draw the first signals below each other."""
    del captions
    signals = raw(field)[:SHOWN]
    canvas = Image.new("RGB", (WIDTH, HEIGHT * len(signals)), "white")
    pen = ImageDraw.Draw(canvas)
    for n, points in enumerate(_points(signals)):
        pen.line([(x, y + n * HEIGHT) for x, y in points], fill="black")
    return canvas


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write the first signals as a PNG."""
    del columns
    with files.replacing(path.with_suffix(SUFFIX)) as partial:
        preview(field, captions).save(partial)
    return path.with_suffix(SUFFIX)


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html:
    """Draw the first signals as SVG; those of `scale_with` set the height."""
    del captions
    reach = None if scale_with is None else float(np.abs(raw(scale_with)).max())
    drawn = [_svg(points, alt) for points in _points(raw(field)[:SHOWN], reach)]
    return tag("div", drawn, class_="pieces")


def raw(field: Field) -> np.ndarray:
    """Return the signals themselves (N, L) float32."""
    values = np.asarray(field.values, np.float32)
    return values.reshape(len(values), -1)


def _points(signals: np.ndarray, reach: float | None = None) -> list[list[tuple[float, float]]]:
    """Return each signal as (x, y) in pixels, zero in the middle."""
    reach = reach or float(np.abs(signals).max(initial=0.0)) or 1.0
    across = np.linspace(0, WIDTH - 1, signals.shape[1])
    down = HEIGHT / 2 * (1 - 0.9 * np.clip(signals / reach, -1, 1))
    return [[(float(x), float(y)) for x, y in zip(across, row, strict=True)] for row in down]


def _svg(points: Sequence[tuple[float, float]], alt: str) -> Html:
    path = tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), fill="none", class_="line")
    return tag("svg", path, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=alt, class_="wave")
