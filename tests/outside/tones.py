"""The source of docs/extending.md: sine tones of four pitches."""

from __future__ import annotations

import numpy as np

from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.spec import Element

LENGTH = 64
PITCHES = (250, 500, 1000, 2000)
"""In Hz, at 8,000 samples per second."""


def load(config, argument):
    """Return 512 rows to train on and 128 to evaluate with."""
    train = _rows(512, seed=0)
    held = _rows(128, seed=1)
    elements = {
        "wave": Element((LENGTH,), "float32", kind="outside.waveform", role="target"),
        "pitch": Element((), "int32", len(PITCHES), kind="label", role="condition"),
    }
    content = digest(*train.values(), *held.values())
    return Loaded(elements, Arrays(train), Arrays(held), content, info="sine tones")


def _rows(count, seed):
    random = np.random.RandomState(seed)  # its stream never changes, so neither does the fingerprint
    pitch = random.randint(len(PITCHES), size=count).astype(np.int32)
    time = np.arange(LENGTH)[None] / 8000
    clean = np.sin(2 * np.pi * np.array(PITCHES)[pitch][:, None] * time)
    noise = 0.05 * random.standard_normal((count, LENGTH))
    return {"wave": np.clip(0.8 * clean + noise, -1, 1).astype(np.float32), "pitch": pitch}
