"""Classifier of MNIST from its original files; of each channel of stacked MNIST, too.

GENJAX_ORIGINALS=... genjax train --config=mnist/classifier

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist-classifier"
    config.data = {"name": "mnist", "batch": 128}
    config.model = {"name": "classifier"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.025}
    config.train = {"steps": 1500, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 4, "features": 8})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
