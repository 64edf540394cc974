"""Read image files as rows: find them, check their headers, decode them on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from genjax import pictures
from genjax.data import listing
from genjax.data.progress import progress
from genjax.data.rows import Columns, Rows
from genjax.errors import DataError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"))
_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "YCbCr": 3, "CMYK": 3}


def find(folder: Path) -> list[Path]:
    """Return all images below a folder, sorted by path; links are followed, hidden files are left out.

    Raises:
      DataError: there is none, or a folder or link cannot be read.
    """
    files = listing.below(folder, SUFFIXES)
    if not files:
        raise DataError(f"no image in {folder}", f"add files that end in {', '.join(sorted(SUFFIXES))}")
    return files


def check(files: Sequence[Path], size: int | None) -> tuple[int, int, int]:
    """Return the (height, width, channels) of all files, read from their headers.

    Args:
      size: the side of the square to which images will be resized, so that their sizes may differ; or None.

    Raises:
      DataError: a file is unreadable, or has another size or another number of channels.
    """
    first: tuple[int, int, int] | None = None
    for file in progress(files, len(files), "reading image headers"):
        shape = _header(file)
        first = first or shape
        if shape[2] != first[2]:
            raise DataError(
                f"{file} has {shape[2]} channels, but {files[0]} has {first[2]}",
                "convert all images to grey, to RGB, or to RGBA",
            )
        if size is None and shape != first:
            raise DataError(
                f"{file} is {shape[1]}x{shape[0]} pixels, but {files[0]} is {first[1]}x{first[0]}",
                "set data.size to crop and resize all images to one square, or give them one size",
            )
    assert first is not None  # find() returns at least one file
    return first if size is None else (size, size, first[2])


def _header(file: Path) -> tuple[int, int, int]:
    with pictures.opened(file, "is not a readable image") as image:
        if image.mode not in _CHANNELS:
            raise DataError(
                f"{file} has pixels of the mode {image.mode!r}", "convert it to 8-bit grey or RGB"
            )
        size = (image.height, image.width)
        height, width = reversed(size) if pictures.sideways(image) else size
        return height, width, _CHANNELS[image.mode]


def decode(file: Path, shape: tuple[int, int, int], size: int | None) -> np.ndarray:
    """Decode a file as uint8 (H, W, C), upright; if `size` is given, its largest centre square, resized.

    Raises:
      DataError: the file is truncated or corrupt, or has changed its size since `check`.
    """
    with pictures.opened(file, "is truncated or corrupt") as image:
        picture = pictures.upright(image, pictures.MODES[shape[2]])
    picture = square(picture, size) if size else picture
    if (picture.height, picture.width) != shape[:2]:
        raise DataError(
            f"{file} is now {picture.width}x{picture.height} pixels instead of {shape[1]}x{shape[0]}",
            "restore it, or start again",
        )
    return np.asarray(picture, np.uint8).reshape(shape)


def square(picture: Image.Image, size: int) -> Image.Image:
    """Return the largest centre square, resized to size x size (Lanczos, antialiased)."""
    side = min(picture.size)
    left = (picture.width - side) // 2
    top = (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    # Crop first: with resize(box=...) the filter would read pixels outside of the box.
    return picture.crop(box).resize((size, size), Image.Resampling.LANCZOS)


class Images(Rows):
    """Decode images when rows are read; keep the other columns in memory."""

    memory = False

    def __init__(
        self,
        files: Sequence[Path],
        columns: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
        size: int | None,
    ):
        self.files = list(files)
        self.columns = dict(columns)
        self.shape = shape
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, indices: np.ndarray) -> Columns:
        out = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices):
            out[row] = decode(self.files[index], self.shape, self.size)
        return {"image": out, **{k: v[indices] for k, v in self.columns.items()}}


def decode_all(rows: Images) -> Columns:
    """Decode every row, in several threads."""
    out = np.empty((len(rows), *rows.shape), np.uint8)

    def one(index: int) -> None:
        out[index] = decode(rows.files[index], rows.shape, rows.size)

    with ThreadPoolExecutor(8) as pool:
        for _ in progress(pool.map(one, range(len(rows))), len(rows), "decoding images"):
            pass
    return {"image": out, **rows.columns}
