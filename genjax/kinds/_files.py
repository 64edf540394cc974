"""Read image files as values of an element."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genjax.errors import ConfigError, DataError
from genjax.spec import Element

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"))
CHANNELS = (1, 3, 4)
log = logging.getLogger("genjax")


def find(path: Path, option: str) -> list[Path]:
    """Return the file itself, or the image files below a folder in order of name.

    Raises:
      DataError: no such file or folder, or no image in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{option}={path}: no such file or folder", "give an image, or a folder of images")
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not found:
        raise DataError(f"{option}={path} holds no image", f"its files end in {', '.join(sorted(SUFFIXES))}")
    return found


def read(path: Path, element: Element) -> np.ndarray:
    """Return one image file in the element's shape, levels and dtype, upright, on white if it is transparent.

    Raises:
      ConfigError: the element's shape is not that of an image.
      DataError: the file is not a readable image of 8 bits per channel.
    """
    from genjax import pictures

    if len(element.shape) != 3 or element.shape[2] not in CHANNELS:
        raise ConfigError(f"images of shape {element.shape} cannot be read from files", "leave --input out")
    height, width, channels = element.shape
    with pictures.opened(path, "is not a readable image") as image:
        pictures.check_depth(image, path)
        see_through = channels < 4 and image.has_transparency_data
        picture = pictures.upright(image, "RGBA" if see_through else pictures.MODES[channels])
    if see_through:
        picture = on_white(picture).convert(pictures.MODES[channels])
    picture = fitted(picture, width, height)
    return to_levels(np.asarray(picture, np.uint8).reshape(element.shape), element)


def on_white(picture: Image.Image) -> Image.Image:
    """Return an RGBA picture in front of white."""
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def tell(paths: Sequence[Path], element: Element) -> None:
    """Warn if files have another size than the element, or colours or transparency that it does not have."""
    from genjax import pictures

    height, width, channels = element.shape
    shapes = []
    grey = []
    clear = 0
    for path in paths:
        with pictures.opened(path, "is not a readable image") as image:
            size = image.size
            shapes.append(size[::-1] if pictures.sideways(image) else size)
            clear += channels < 4 and image.has_transparency_data
            grey.append(image.mode in ("1", "L", "LA", "I;16"))
    cropped = sum(w * height != h * width for w, h in shapes)
    smaller = sum(w > width and h > height for w, h in shapes)
    larger = sum(w < width or h < height for w, h in shapes)
    said = [
        f"{count} {what}"
        for count, what in (
            (cropped, "cropped at the centre"),
            (smaller, "made smaller"),
            (larger, "made larger"),
            (sum(not g for g in grey) if channels == 1 else 0, "turned to grey"),
            (clear, "put on white"),
        )
        if count
    ]
    if said:
        log.warning(
            "the model reads images of %dx%d; of %d images %s",
            width,
            height,
            len(shapes),
            ", ".join(said),
        )


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return the picture at this size: cropped at the centre to its proportions, and resized."""
    from PIL import ImageOps

    same = picture.size == (width, height)
    return picture if same else ImageOps.fit(picture, (width, height))


def to_levels(pixels: np.ndarray, element: Element) -> np.ndarray:
    """Return 8-bit pixels as integers in [0, levels), or in [0, 1] without levels."""
    share = pixels.astype(np.float32) / 255
    if element.levels is None:
        return share.astype(element.dtype)
    return np.round(share * (element.levels - 1)).astype(element.dtype)
