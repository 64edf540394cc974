"""Open image files: every fault is named, and pictures are turned upright."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import ExifTags, Image

from genjax.errors import DataError, GenjaxError

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transpositions that show a picture of an EXIF orientation upright (EXIF 2.32, section 4.6.4)."""
DEEP = ("I", "F")
"""Beginnings of the modes with more than 8 bits per channel."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""The mode with so many channels."""


@contextlib.contextmanager
def opened(file: Path, fault: str) -> Iterator[Image.Image]:
    """Open an image; every error of reading it becomes a DataError that names the file and the fault."""
    try:
        with Image.open(file) as image:
            yield image
    except (GenjaxError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{file} has too many pixels: {error}", "make it smaller, or remove it") from error
    # Damaged files make Pillow raise errors of many types: struct.error, zlib.error, EOFError, KeyError ...
    except Exception as error:
        raise DataError(f"{file} {fault}: {error}", "replace it, or remove it") from error


def check_depth(image: Image.Image, file: Path) -> None:
    """Refuse more than 8 bits per channel, which a conversion would cut off.

    Raises:
      DataError: the image has them.
    """
    if image.mode.startswith(DEEP):
        raise DataError(f"{file} has pixels of the mode {image.mode!r}", "convert it to 8-bit grey or RGB")


def sideways(image: Image.Image) -> bool:
    """Return whether height and width change places when the picture is turned upright."""
    return _orientation(image) in (5, 6, 7, 8)


def upright(image: Image.Image, mode: str) -> Image.Image:
    """Return the picture in this mode, upright."""
    turn = _UPRIGHT.get(_orientation(image))
    picture = image.convert(mode)
    return picture if turn is None else picture.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, that remains to be applied; 1 if the picture is upright."""
    # Pillow turns TIFF files itself. For PNG, its getexif() would decode the pixels, which headers need not.
    if image.format == "TIFF":
        return 1
    try:
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged metadata raise errors of many types, and the pixels may be whole.
        return 1
