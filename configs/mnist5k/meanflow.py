"""MeanFlow on 5,000 MNIST digits: samples in one evaluation, with the guidance learned.

    genjax train --config=mnist5k/meanflow

The transformer and the optimizer of mnist5k/diffusion.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-meanflow"
    config.data = {"name": "mnist5k", "batch": 64}
    network = {"network": "transformer", "width": 128, "blocks": 4, "head": 32, "patch": 4}
    config.model = {"name": "meanflow", "network": network, "guidance": 1.5}
    config.optimizer = {
        "name": "muon",
        "learning_rate": 6e-3,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.1,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 8000.0}}, "checkpoint_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.network.update({"width": 16, "blocks": 1, "head": 8})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
