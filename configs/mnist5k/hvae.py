"""Hierarchical VAE with two convolutional levels on 5,000 28x28 digits, conditional on the class.

genjax train --config=mnist5k/hvae
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-hvae"
    config.data = {"name": "mnist5k", "batch": 64}
    config.model = {"name": "hvae", "latents": (4, 16), "sigma": 0.2, "smallest": 0.1}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "latents": (2, 3)})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
