"""Super-resolution of 5,000 28x28 digits from 14x14 pixels, by regression; with an adversary it is a GAN.

genjax train --config=mnist5k/superres
genjax train --config=mnist5k/superres --config.model.adversary="{'weight': 0.1}"

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-superres"
    config.data = {"name": "mnist5k", "batch": 32, "downsample": 2}
    config.model = {"name": "superres"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.025}
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 4, "blocks": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
