"""Images of a dataset as pictures: grids of tiles, enlarged by whole pixels, whatever their levels."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


def grid(
    images: np.ndarray,
    levels: int,
    columns: int,
    scale: int = 4,
    *,
    gap: int = 2,
    background: int | None = 128,
) -> Image.Image:
    """Tiles in reading order, `columns` to a row; a pixel becomes scale x scale pixels.

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
    import numpy as np
    from PIL import Image

    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f"images must be (N > 0, H, W, 1 or 3), got {images.shape}")
    if min(columns, scale, levels - 1) < 1 or gap < 0:
        raise ValueError(f"columns={columns}, scale={scale}, levels={levels}, gap={gap} are too small")
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(f"values must be in [0, {levels}), got {images.min()} to {images.max()}")
    shades = np.round(images.astype(np.float32) * (255 / (levels - 1))).astype(np.uint8)
    shades = shades.repeat(scale, 1).repeat(scale, 2)
    count, height, width, channels = shades.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    size = rows * (height + gap) - gap, columns * (width + gap) - gap
    clear = background is None
    canvas = np.full((*size, channels + clear), 0 if background is None else background, np.uint8)
    for n, tile in enumerate(shades):
        y, x = n // columns * (height + gap), n % columns * (width + gap)
        canvas[y : y + height, x : x + width, :channels] = tile
        if clear:
            canvas[y : y + height, x : x + width, channels] = 255
    return Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)


def save(
    path: str | os.PathLike[str],
    images: np.ndarray,
    levels: int,
    columns: int,
    scale: int = 4,
    **options: Any,
) -> Path:
    """Writes `grid(...)` to `path` as PNG, whole or not at all; makes the folder. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    grid(images, levels, columns, scale, **options).save(partial, format="PNG", optimize=True)
    partial.replace(path)
    return path


def data_uri(picture: Image.Image) -> str:
    """The picture as a PNG inside a URI, for a page without external files."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def scale_for(side: int, pixels: int = 44) -> int:
    """The whole enlargement that brings a tile of `side` pixels nearest to `pixels`, at least 1."""
    return max(1, round(pixels / max(side, 1)))


def by_class(labels: np.ndarray | None, per_class: int, count: int, available: int) -> list[int]:
    """Which rows to show: the first `per_class` of each class, in order of class and then of drawing.

    Without labels the first `count` rows. Rows are never chosen by how they look.
    """
    import numpy as np

    if labels is None:
        return list(range(min(count, available)))
    labels = np.asarray(labels)[:available]
    return [int(i) for c in np.unique(labels) for i in np.flatnonzero(labels == c)[:per_class]]
