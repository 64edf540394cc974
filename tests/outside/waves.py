"""outside.waves: noisy sine waves of 16 samples, real-valued; the class is the frequency."""

from __future__ import annotations

import numpy as np

from genjax.data import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.spec import Element

LENGTH, CLASSES = 16, 3


def load(config: Config, argument: str) -> Loaded:
    """Return 300 waves to train and 60 to evaluate."""
    random = np.random.RandomState(0)
    parts = []
    for rows in (300, 60):
        label = random.randint(CLASSES, size=rows).astype(np.int32)
        phase = random.uniform(0, 2 * np.pi, (rows, 1))
        time = np.arange(LENGTH)[None] / LENGTH
        wave = np.sin(2 * np.pi * (1 + label[:, None]) * time + phase)
        noise = 0.05 * random.standard_normal((rows, LENGTH))
        parts.append({"wave": (wave + noise).astype(np.float32), "label": label})
    elements = {
        "wave": Element((LENGTH,), "float32", None, "outside.wave", "target"),
        "label": Element((), "int32", CLASSES, "label", "condition"),
    }
    content = digest(*(x for part in parts for x in part.values()))
    return Loaded(elements, Arrays(parts[0]), Arrays(parts[1]), content, info="noisy sine waves")
