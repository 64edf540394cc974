"""Points: real vectors, of which the first two coordinates are plotted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genjax.kinds import _pixels
from genjax.kinds._interface import Field, Unit
from genjax.markup import Html, tag

if TYPE_CHECKING:
    from PIL import Image

UNIT = Unit("nats_per_dim", "Nats per dimension", "nats", "realism")
SUFFIX = ".png"
PICTURE = True
MOST = 1500
"""Points on a card."""
_INK = (
    (31, 119, 180),
    (214, 39, 40),
    (44, 160, 44),
    (255, 127, 14),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)


def preview(field: Field, captions: Sequence[str] | None = None) -> Image.Image:
    """Draw a scatter plot, coloured by label."""
    del captions
    return scatter(_plane(field), field.labels)


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write a scatter plot, coloured by label, as a PNG."""
    del columns, captions
    return _pixels.save_picture(path.with_suffix(SUFFIX), scatter(_plane(field), field.labels))


def scatter(points: np.ndarray, labels: np.ndarray | None = None, side: int = 512) -> Image.Image:
    """Draw points (N, 2) on a white square, with equal scales on both axes, coloured by label."""
    from PIL import Image

    page = np.full((side, side, 3), 255, np.uint8)
    middle = (points.min(0) + points.max(0)) / 2
    reach = max(float(np.ptp(points, axis=0).max()), 1e-6) * 0.55
    at = ((points - middle) / reach * 0.5 + 0.5) * (side - 1)
    column, row = np.round(at).astype(int).T
    group = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    ink = np.array(_INK, np.uint8)[group % len(_INK)]
    # Each point is a square of three pixels.
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            page[(side - 1 - row + dy).clip(0, side - 1), (column + dx).clip(0, side - 1)] = ink
    return Image.fromarray(page)


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html | None:
    """Draw the points as dots around the origin; cards with the same `scale_with` have the same axes."""
    del captions
    points = _plane(field)[:MOST]
    if not len(points):
        return None
    reach = _reach(_plane(scale_with), 1.25) if scale_with is not None else _reach(points, 1.1)
    dots = "".join(f"M{x / reach:.3f} {-y / reach:.3f}h0" for x, y in points)
    size = {"viewBox": "-1.02 -1.02 2.04 2.04", "role": "img", "aria_label": alt}
    return tag("svg", tag("path", d=dots, class_="cloud"), class_="points", **size)


def _reach(points: np.ndarray, margin: float) -> float:
    """Return the half width of a plot that holds the points; 1 if all are at the origin."""
    return float(np.abs(points).max(initial=0.0)) * margin or 1.0


def _plane(field: Field) -> np.ndarray:
    """Return the first two coordinates (N, 2) of each point; a missing second one is 0."""
    values = np.asarray(field.values, float)
    flat = values.reshape(len(values), -1)[:, :2]
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def raw(field: Field) -> np.ndarray:
    """Return the points themselves, flattened: (N, D)."""
    values = np.asarray(field.values, np.float32)
    return values.reshape(len(values), -1)
