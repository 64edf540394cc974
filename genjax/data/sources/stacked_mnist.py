"""Load stacked MNIST: each image has three digits of MNIST as its channels, 1,000 modes in all.

The standard test of mode collapse on images (Metz et al. 2017, arXiv:1611.02163, sec. 3.3.1; Srivastava et
al. 2017, arXiv:1705.07761). 60,000 images to train and 10,000 to evaluate, three rows of MNIST drawn for
each. `label` is the number whose digits the channels show. `stacked_mnist:16` halves the images to 14 x 14
pixels in a frame of 16 x 16. Originals: the four idx files in ORIGINALS/mnist.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Columns, Rows
from genjax.data.sources import _idx
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "stacked_mnist, stacked_mnist:16"


def targets(argument: str) -> str:
    """Return the dataset of the digits that are stacked, one channel at a time."""
    return f"mnist:{argument}" if argument else "mnist"


class Stacked(Rows):
    """Stack three digits as the channels of each image.

    Args:
      images: (N, H, W, 1).
      labels: (N,), digits.
      index: (rows, 3), of the digits.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, index: np.ndarray):
        self.images = images
        self.labels = labels
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __call__(self, indices: np.ndarray) -> Columns:
        index = self.index[indices]
        stacked = np.moveaxis(self.images[index][..., 0], 1, -1)
        label = self.labels[index] @ np.array([100, 10, 1])
        return {"image": np.ascontiguousarray(stacked), "label": label.astype(np.int32)}


def load(config: Config, argument: str) -> Loaded:
    """Return images of three channels, with the number that they show.

    Raises:
      DataError: another size than 16, or the originals are missing or damaged.
    """
    if argument not in ("", "16"):
        raise DataError(f"stacked_mnist:{argument}: there is no such size", f"use one of {USAGE}")
    # RandomState is the only generator of NumPy whose stream never changes.
    random = np.random.RandomState(0)
    parts = []
    for part, rows in (("train", 60_000), ("test", 10_000)):
        images, labels = _idx.mnist(config, part)
        index = random.randint(len(images), size=(rows, 3))
        parts.append(Stacked(_idx.halved(images) if argument else images, labels, index))
    train, held = parts
    side = train.images.shape[1]
    elements = {
        "image": Element((side, side, 3), "uint8", 256, "image", "target"),
        # Not a condition: a model that is given the mode could not miss any.
        "label": Element((), "int32", 1000, "label"),
    }
    content = digest(*(x for part in parts for x in (part.images, part.labels, part.index)))
    info = "stacked_mnist: three digits of MNIST as channels, 1,000 modes."
    return Loaded(elements, train, held, content, info=info)
