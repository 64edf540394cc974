"""Configure a classifier of 8x8 digits, whose features serve the Fréchet distance and other metrics.

genjax train --config=digits/classifier
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-classifier"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "classifier"}
    config.optimizer = {"name": "adam", "learning_rate": 2e-3, "schedule": "cosine", "end": 0.01}
    config.train = {"steps": 600, "averages": {"eval": {"half_life": 4000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "features": 16})
        config.train.steps = 8
    return config
