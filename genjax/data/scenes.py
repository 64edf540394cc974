"""Draw simple shapes: anti-aliased, as pure functions of the parameters of each row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Signed = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(x, y) in units of the shape's size -> signed distance to its outline, negative inside."""


def circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to the unit circle."""
    return np.hypot(x, y) - 1.0


def ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance to an ellipse half as high as wide; it is exact on the axes."""
    scaled = np.hypot(x, 2.0 * y)
    return (scaled - 1.0) * np.where(scaled > 0, scaled / np.maximum(np.hypot(x, 4.0 * y), 1e-9), 0.5)


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance to a square with sides of 1.7, exact inside."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.85


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance to an equilateral triangle with its tip at the top, exact inside."""
    side = 0.5 * np.sqrt(3.0) * np.abs(x) - 0.5 * y
    return np.maximum(side, y) - 0.55


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance to a star with five tips, the first at the top."""
    angle = np.arctan2(x, -y)
    sector = 2 * np.pi / 5
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    r = np.hypot(x, y)
    u, v = r * np.cos(folded), r * np.sin(folded)
    # The edge from the tip (1, 0) to the notch at half a sector and 0.42 of the radius.
    notch = 0.42 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    normal = np.array([notch[1], 1.0 - notch[0]])
    normal = normal / np.hypot(*normal)
    return (u - 1.0) * normal[0] + v * normal[1]


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return about the distance to a heart, the curve (u^2 + v^2 - 1)^3 = u^2 v^3, with its tip below."""
    u, v = 1.2 * x, -1.2 * y + 0.15
    base = u * u + v * v - 1.0
    value = base**3 - u * u * v**3
    # A signed cube root grows about as fast as the distance.
    return np.cbrt(value) / 2.4


def coverage(
    shape: Signed,
    side: int,
    centre: tuple[np.ndarray, np.ndarray],
    size: np.ndarray,
    angle: np.ndarray,
) -> np.ndarray:
    """Return the share of every pixel that a shape covers: (N, side, side) float32.

    Args:
      centre: x and y per row, in pixels from the top left.
      size: in pixels per row: the unit of the shape.
      angle: in radians per row, clockwise.
    """
    place = np.arange(side, dtype=np.float32) + 0.5
    dx = place[None, None, :] - centre[0][:, None, None]
    dy = place[None, :, None] - centre[1][:, None, None]
    c, s = (np.asarray(f(angle), np.float32)[:, None, None] for f in (np.cos, np.sin))
    unit = size[:, None, None]
    distance = shape((c * dx + s * dy) / unit, (c * dy - s * dx) / unit) * unit
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)
