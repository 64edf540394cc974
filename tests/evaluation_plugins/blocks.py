"""A feature extractor outside the package: means of blocks of N by N pixels."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import Features


def build(argument, request):
    """Return the extractor whose argument is the side of a block."""
    side = int(argument)

    def embed(images):
        n, height, width, channels = images.shape
        blocks = images.reshape(n, height // side, side, width // side, side, channels)
        return blocks.mean((2, 4)).reshape(n, -1).astype(np.float32)

    return Features(embed, None, f"blocks/{side}", "means of blocks", element=request.element)
