"""Load MNIST from its original files (LeCun et al. 1998), 28x28 with 256 levels; without TFDS.

60,000 images to train and 10,000 to evaluate. `mnist:16` halves the images to 14 x 14 pixels in a frame of
16 x 16. Originals: the four idx files in ORIGINALS/mnist.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.data.sources import _idx
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "mnist, mnist:16"


def load(config: Config, argument: str) -> Loaded:
    """Return images with labels.

    Raises:
      DataError: another size than 16, or the originals are missing or damaged.
    """
    if argument not in ("", "16"):
        raise DataError(f"mnist:{argument}: there is no such size", f"use one of {USAGE}")
    parts = []
    for part in ("train", "test"):
        images, labels = _idx.mnist(config, part)
        parts.append({"image": _idx.halved(images) if argument else images, "label": labels})
    train, held = parts
    elements = {
        "image": Element(train["image"].shape[1:], "uint8", 256, "image", "target"),
        "label": Element((), "int32", 10, "label", "condition"),
    }
    content = digest(*train.values(), *held.values())
    digits = tuple(map(str, range(10)))
    return Loaded(
        elements, Arrays(train), Arrays(held), content, classes=digits, info="mnist: handwritten digits."
    )
