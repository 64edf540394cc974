"""Draw images as grids of tiles, enlarged by whole pixels, whatever their levels."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genjax import files
from genjax.markup import Html, tag
from genjax.spec import Element

if TYPE_CHECKING:
    from PIL import Image

TILE = 44
"""Pixels of a tile in a report, about."""


def grid(
    images: np.ndarray,
    levels: int,
    columns: int,
    scale: int = 4,
    *,
    gap: int = 2,
    background: int | None = 128,
) -> Image.Image:
    """Draw tiles in reading order, `columns` to a row; a pixel becomes scale x scale pixels.

    Args:
      images: (N, H, W, C) integers in [0, levels); C is 1 (grey) or 3 (RGB).
      levels: level k is shown as round(255 k / (levels - 1)).
      columns: tiles to a row; the last row may be ragged.
      scale: whole-pixel enlargement (nearest neighbour).
      gap: pixels between tiles.
      background: the grey of gaps and of missing tiles; None makes them transparent.

    Returns:
      A Pillow image of mode L or RGB (LA or RGBA where the background is transparent).

    Raises:
      ValueError: another shape, no image at all, a value outside [0, levels), or a size below one.
    """
    from PIL import Image

    images = np.asarray(images)
    _check(images, levels, columns, scale, gap)
    shades = np.round(images.astype(np.float32) * (255 / (levels - 1))).astype(np.uint8)
    shades = shades.repeat(scale, 1).repeat(scale, 2)
    canvas = _arrange(shades, min(columns, len(shades)), gap, background)
    return Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)


def _check(images: np.ndarray, levels: int, columns: int, scale: int, gap: int) -> None:
    """Raise ValueError for images or sizes that cannot be drawn."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (N > 0, H, W, 1 or 3), got {images.shape}")
    if min(columns, scale, levels - 1) < 1 or gap < 0:
        raise ValueError(f"columns={columns}, scale={scale}, levels={levels}, gap={gap} are too small")
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(f"values must be in [0, {levels}), got {images.min()} to {images.max()}")


def _arrange(tiles: np.ndarray, columns: int, gap: int, background: int | None) -> np.ndarray:
    """Return a canvas (H, W, C) with the tiles (N, h, w, c); C = c + 1 (alpha) without a background."""
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    clear = background is None
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels + clear)
    canvas = np.full(size, 0 if background is None else background, np.uint8)
    for n, tile in enumerate(tiles):
        y = n // columns * (height + gap)
        x = n % columns * (width + gap)
        canvas[y : y + height, x : x + width, :channels] = tile
        if clear:
            canvas[y : y + height, x : x + width, channels] = 255
    return canvas


def save(path: Path, images: np.ndarray, levels: int, columns: int, scale: int = 4) -> Path:
    """Write `grid(...)` as a PNG, atomically; return the path."""
    return save_picture(path, grid(images, levels, columns, scale))


def save_picture(path: Path, picture: Image.Image) -> Path:
    """Write a picture as a PNG, atomically; return the path."""
    with files.replacing(path) as partial:
        picture.save(partial, format="PNG", optimize=True)
    return path


def data_uri(picture: Image.Image) -> str:
    """Return the picture as a PNG inside a URI, for a page without external files."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def visible(element: Element, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return images as (N, H, W, 1 or 3) integers that can be drawn, and their number of levels.

    Real values (no levels) are taken to lie in [0, 1]. Of more than three channels the first three are
    shown, of two the first.
    """
    values = np.asarray(values)
    if values.ndim == 3:
        values = values[..., None]
    values = values[..., : 3 if values.shape[-1] >= 3 else 1]
    if np.issubdtype(values.dtype, np.floating) and element.levels is None:
        return np.round(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8), 256
    # A sample beyond the data's levels must not break a page.
    highest = int(values.max()) + 1 if values.size else 2
    return values, max(element.levels or 256, highest, 2)


def embed(images: np.ndarray, levels: int, columns: int, alt: str) -> Html:
    """Return an embedded grid of tiles, enlarged by whole pixels to about `TILE` pixels each."""
    scale = scale_for(max(images.shape[1:3]))
    gap = max(2, scale * images.shape[2] // 6)
    return picture_tag(grid(images, levels, columns, scale, gap=gap, background=None), alt)


def picture_tag(picture: Image.Image, alt: str, class_: str | None = None) -> Html:
    """Return a picture as an embedded img element."""
    size = {"width": picture.width, "height": picture.height}
    return tag("img", src=data_uri(picture), alt=alt, class_=class_, **size)


def scale_for(side: int, pixels: int = TILE) -> int:
    """Return the whole enlargement that brings a tile of `side` pixels nearest to `pixels`, at least 1."""
    return max(1, round(pixels / max(side, 1)))


def by_class(labels: np.ndarray | None, available: int, length: int) -> list[int]:
    """Return `length` rows: each class once, then each again, in the order in which they were drawn.

    Without labels these are the first rows. Rows are never chosen by how they look.
    """
    if labels is None:
        return list(range(min(length, available)))
    labels = np.asarray(labels)[:available]
    places = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    rounds = max((len(p) for p in places), default=0)
    return [int(p[r]) for r in range(rounds) for p in places if r < len(p)][:length]
