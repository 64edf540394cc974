"""Load two domains of digits, unpaired: `source` (MNIST) is translated to `image` (USPS).

MNIST is cut to its middle 20 x 20 pixels, which may cut strokes of digits that lie off the centre, and
resized to USPS's 16 x 16. `label` is that of `source`, for scores: no model reads it. Held-out rows are the
test parts, beside each other by chance. Originals: the four idx files in ORIGINALS/mnist, and usps.npz in
ORIGINALS/usps.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays, Rows, Zipped
from genjax.data.sources import _idx, _usps
from genjax.spec import Element

BORDER = 4
"""Pixels on each side of MNIST's images that are cut."""


def targets(argument: str) -> str:
    """Return the dataset whose images are the targets."""
    return "usps"


def load(config: Config, argument: str) -> Loaded:
    """Return images of the two domains side by side, with the label of `source`.

    Raises:
      DataError: the originals are missing or damaged.
    """
    usps = _usps.read(config)
    parts: dict[str, Rows] = {}
    arrays = []
    for part in ("train", "test"):
        images, label = _idx.mnist(config, part)
        one = {"source": resized(images[:, BORDER:-BORDER, BORDER:-BORDER]), "label": label}
        other = {"image": usps[part][0]}
        arrays += [*one.values(), *other.values()]
        parts[part] = Zipped({"a": Arrays(one), "b": Arrays(other)}, suffix=False)
    image = Element((_usps.SIDE, _usps.SIDE, 1), "uint8", 256, "image")
    elements = {
        "source": image.replace(role="condition"),
        "label": Element((), "int32", 10, "label"),
        "image": image.replace(role="target"),
    }
    return Loaded(
        elements,
        parts["train"],
        parts["test"],
        digest(*arrays),
        classes=tuple(map(str, range(10))),
        info="mnist_usps: MNIST beside USPS, 16x16, unpaired.",
    )


def resized(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, 1) at USPS's size, bilinear with averaging."""
    from PIL import Image

    size = (_usps.SIDE, _usps.SIDE)
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(x[..., 0]).resize(size, bilinear)) for x in images])[
        ..., None
    ]
