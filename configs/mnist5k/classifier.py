"""Configure a classifier of 28x28 digits, whose features serve the Fréchet distance and other metrics.

genjax train --config=mnist5k/classifier
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-classifier"
    config.data = {"name": "mnist5k", "batch": 64}
    config.model = {"name": "classifier"}
    config.optimizer = {"name": "adam", "learning_rate": 2e-3, "schedule": "cosine", "end": 0.01}
    config.train = {"steps": 600, "averages": {"eval": {"half_life": 4000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "features": 16})
        config.train.steps = 8
    return config
