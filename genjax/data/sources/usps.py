"""Load USPS, handwritten digits of zip codes (Hull 1994), 16x16 with 256 levels.

7,291 images to train and 2,007 to evaluate. The original is usps.npz in ORIGINALS/usps: x_train, x_test (N,
16, 16) in [-1, 1], and y_train, y_test.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.data.sources import _usps
from genjax.spec import Element


def load(config: Config, argument: str) -> Loaded:
    """Return images with labels.

    Raises:
      DataError: the originals are missing or damaged.
    """
    parts = _usps.read(config)
    train, held = ({"image": x, "label": y} for x, y in parts.values())
    elements = {
        "image": Element((_usps.SIDE, _usps.SIDE, 1), "uint8", 256, "image", "target"),
        "label": Element((), "int32", 10, "label", "condition"),
    }
    content = digest(*train.values(), *held.values())
    digits = tuple(map(str, range(10)))
    info = f"usps: {_usps.INFO}."
    return Loaded(elements, Arrays(train), Arrays(held), content, classes=digits, info=info)
