"""Read the original idx files of MNIST (LeCun et al. 1998)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.sources import _originals
from genjax.errors import DataError

PARTS = {"train": "train", "test": "t10k"}


def mnist(config: Config, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (images (N, 28, 28, 1), labels (N,)) of "train" or "test", in the order of the files.

    Raises:
      DataError: the originals are missing or damaged.
    """
    start = PARTS[part]
    names = [f"{start}-images-idx3-ubyte.gz", f"{start}-labels-idx1-ubyte.gz"]
    images, labels = (_read(path) for path in _originals.files(config, "mnist", names))
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise DataError(f"the originals of MNIST's {part} part do not belong together", "copy them again")
    return images[..., None], labels.astype(np.int32)


def halved(images: np.ndarray) -> np.ndarray:
    """Return images (N, 28, 28, 1) averaged over blocks of 2 x 2, in a frame of one pixel: 16 x 16."""
    blocks = images.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4))
    return np.pad(np.round(blocks).astype(np.uint8), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _read(path: Path) -> np.ndarray:
    """Return the array of an idx file of unsigned bytes: 0, 0, 8, rank, the sizes, the values."""
    try:
        with gzip.open(path) as stream:
            data = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}", "copy it again") from error
    rank = data[3] if data[:3] == b"\0\0\x08" else 0
    sizes = np.frombuffer(data[4 : 4 + 4 * rank], ">u4")
    values = np.frombuffer(data[4 + 4 * rank :], np.uint8)
    if not rank or len(sizes) != rank or math.prod(map(int, sizes)) != len(values):
        raise DataError(f"{path} is not an idx file of unsigned bytes", "copy it again")
    return values.reshape(tuple(map(int, sizes)))
