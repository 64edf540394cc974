"""Draw points from 25 Gaussians on a 5 by 5 grid, the standard test of mode collapse.

Means (-4 + 2i, -4 + 2j), standard deviation 0.05 (Lin et al. 2018, PacGAN, arXiv:1712.04086, sec. 4.1);
100,000 points to train, 10,000 to evaluate; `label` is the mode.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources.ring import mixture

INFO = "grid: 25 Gaussians on a 5 by 5 grid, the standard test of mode collapse."


def load(config: Config, argument: str) -> Loaded:
    """Return points (2,) with the index of their mode as label."""
    side = np.arange(-4.0, 5.0, 2.0)
    return mixture(np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2), 0.05, INFO)
