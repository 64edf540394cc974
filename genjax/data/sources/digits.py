"""Load scikit-learn's 1,797 handwritten digits, 8x8 with 17 levels (0 to 16).

They are the test part of the Optical Recognition of Handwritten Digits data (Alpaydin and Kaynak 1998, UCI).
The split is fixed and stratified: 1,500 to train, 297 to evaluate.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.data.sources._split import stratified
from genjax.spec import Element

INFO = "digits: scikit-learn's 1,797 handwritten digits, 8x8 with 17 levels (0 to 16)."


def load(config: Config, argument: str) -> Loaded:
    """Return 8x8x1 images with labels."""
    from sklearn.datasets import load_digits

    images, labels = map(np.asarray, load_digits(return_X_y=True))
    return labelled(images.reshape(-1, 8, 8, 1), labels, 297, 17, INFO)


def labelled(images: np.ndarray, labels: np.ndarray, held: int, levels: int, info: str) -> Loaded:
    """Return images (N, H, W, C) with labels (N,) in memory, `held` of them for evaluation."""
    images = images.astype(np.uint8)
    labels = labels.astype(np.int32)
    train, test = ({"image": images[i], "label": labels[i]} for i in stratified(labels, held))
    classes = int(labels.max()) + 1
    elements = {
        "image": Element(images.shape[1:], "uint8", levels, "image", "target"),
        "label": Element((), "int32", classes, "label", "condition"),
    }
    content = digest(*train.values(), *test.values())
    names = tuple(map(str, range(classes)))
    return Loaded(elements, Arrays(train), Arrays(test), content, classes=names, info=info)
