"""Image files as rows: found, checked by their headers, decoded when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from genjax.data.progress import progress
from genjax.data.rows import Columns, Rows
from genjax.errors import DataError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"))
_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4, "YCbCr": 3, "CMYK": 3}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def find(folder: Path) -> list[Path]:
    """All images below a folder, by name; hidden files are left out."""
    files = sorted(
        f
        for f in folder.rglob("*")
        if f.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in f.relative_to(folder).parts)
    )
    if not files:
        raise DataError(f"no image in {folder}", f"put files there that end in {', '.join(sorted(SUFFIXES))}")
    return files


def check(files: Sequence[Path], size: int | None) -> tuple[int, int, int]:
    """The (height, width, channels) that all the files have, read from their headers.

    Args:
      size: the side of the square that they will be made into, which makes their own sizes free.
    """
    first: tuple[int, int, int] | None = None
    for file in progress(files, len(files), "reading image headers"):
        shape = _header(file)
        first = first or shape
        if shape[2] != first[2]:
            raise DataError(
                f"{file} has {shape[2]} channels, where {files[0]} has {first[2]}",
                "convert them to one form: all grey, all RGB, or all RGBA",
            )
        if size is None and shape != first:
            raise DataError(
                f"{file} is {shape[1]}x{shape[0]} pixels, where {files[0]} is {first[1]}x{first[0]}",
                "set data.size to crop and resize all to one square, or make them one size",
            )
    assert first is not None  # find() has found at least one
    return first if size is None else (size, size, first[2])


def _header(file: Path) -> tuple[int, int, int]:
    try:
        with Image.open(file) as image:
            if image.mode not in _CHANNELS:
                raise DataError(
                    f"{file} has pixels of the kind {image.mode!r}", "convert it to 8-bit grey or RGB"
                )
            return image.height, image.width, _CHANNELS[image.mode]
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file} is not a readable image: {error}", "replace it, or take it away") from error


def decode(file: Path, shape: tuple[int, int, int], size: int | None) -> np.ndarray:
    """One file as uint8 (H, W, C); with `size`, its largest centre square, resized."""
    try:
        with Image.open(file) as image:
            picture = image.convert(_MODES[shape[2]])
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file} is truncated or corrupt: {error}", "replace it, or take it away") from error
    return np.asarray(square(picture, size) if size else picture, np.uint8).reshape(shape)


def square(picture: Image.Image, size: int) -> Image.Image:
    """The largest centre square, resized to size x size (Lanczos, which filters when it shrinks)."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    # Cropped first: resize(box=...) would let the filter read beyond the box.
    return picture.crop(box).resize((size, size), Image.Resampling.LANCZOS)


class Images(Rows):
    """Rows whose images are decoded when they are asked for; other columns are in memory."""

    memory = False

    def __init__(
        self,
        files: Sequence[Path],
        columns: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
        size: int | None,
    ):
        self.files, self.columns, self.shape, self.size = list(files), dict(columns), shape, size

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, indices: np.ndarray) -> Columns:
        out = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices):
            out[row] = decode(self.files[index], self.shape, self.size)
        return {"image": out, **{k: v[indices] for k, v in self.columns.items()}}


def decode_all(rows: Images) -> Columns:
    """Every row at once, decoded by several threads."""
    out = np.empty((len(rows), *rows.shape), np.uint8)

    def one(index: int) -> None:
        out[index] = decode(rows.files[index], rows.shape, rows.size)

    with ThreadPoolExecutor(8) as pool:
        for _ in progress(pool.map(one, range(len(rows))), len(rows), "decoding images"):
            pass
    return {"image": out, **rows.columns}
