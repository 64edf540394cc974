"""Draw points from 8 Gaussians on the unit circle, the standard test of mode collapse.

Means (cos 2πi/8, sin 2πi/8), standard deviation 0.01 (Lin et al. 2018, PacGAN, arXiv:1712.04086, sec. 4.1);
100,000 points to train, 10,000 to evaluate; `label` is the mode.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.spec import Element

INFO = "ring: 8 Gaussians on the unit circle, the standard test of mode collapse."


def load(config: Config, argument: str) -> Loaded:
    """Return points (2,) with the index of their mode as label."""
    angle = 2 * np.pi * np.arange(8) / 8
    return mixture(np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.01, INFO)


def mixture(means: np.ndarray, deviation: float, info: str) -> Loaded:
    """Return points of a mixture of isotropic Gaussians with equal weights.

    Args:
      means: (modes, 2).
      deviation: the standard deviation of every mode.
      info: the origin of the data, in words.
    """
    # RandomState is the only generator of NumPy whose stream never changes.
    random = np.random.RandomState(0)
    parts = []
    for n in (100_000, 10_000):
        label = random.randint(len(means), size=n).astype(np.int32)
        # Rounded, since the last bit of a logarithm differs between machines and would change the digest.
        point = np.round(means[label] + deviation * random.standard_normal((n, 2)), 6).astype(np.float32)
        parts.append({"point": point, "label": label})
    elements = {
        "point": Element((2,), "float32", None, "point", "target"),
        # Not a condition: a model that is given the mode could not miss any.
        "label": Element((), "int32", len(means), "label"),
    }
    content = digest(*parts[0].values(), *parts[1].values())
    return Loaded(elements, Arrays(parts[0]), Arrays(parts[1]), content, info=info)
