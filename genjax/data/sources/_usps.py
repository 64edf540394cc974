"""Read the originals of USPS: handwritten digits of zip codes (Hull 1994), 16 x 16 pixels."""

from __future__ import annotations

import zipfile

import numpy as np

from genjax.data.config import Config
from genjax.data.sources import _originals
from genjax.errors import DataError

FILE = "usps.npz"
SIDE = 16
INFO = "handwritten digits of zip codes, 16x16 with 256 levels"


def read(config: Config) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {"train", "test": (images (N, 16, 16, 1) uint8, labels (N,))}; white on black.

    Raises:
      DataError: the originals are missing or damaged.
    """
    (path,) = _originals.files(config, "usps", [FILE])
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {part: _part(file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test")}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or lacks a part: {error}", "copy it again") from error


def _part(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values in [-1, 1] as levels, with labels.

    Raises:
      ValueError: the arrays have another form.
    """
    if x.shape[1:] != (SIDE, SIDE) or y.shape != x.shape[:1] or not np.isin(y, range(10)).all():
        raise ValueError(f"arrays {x.shape} and {y.shape}")
    if not (np.abs(x) <= 1).all():
        raise ValueError("values outside of [-1, 1]")
    levels = np.round((x.astype(np.float64) + 1) * 127.5).astype(np.uint8)
    return levels[..., None], y.astype(np.int32)
