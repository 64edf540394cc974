"""GAN of fully connected networks on 25 Gaussians on a grid: the plain loss, which loses modes.

genjax train --config=grid/gan
genjax train --config=grid/gan --config.model.loss=relativistic --config.model.r1=0.03 --config.model.r2=0.03
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "grid-gan"
    config.data = {"name": "grid", "batch": 128}
    config.model = {
        "name": "gan",
        "network": {"name": "mlp", "width": 128, "depth": 4},
        "latent": 2,
        "conditional": False,
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "b1": 0.5,
        "b2": 0.99,
        "schedule": "cosine",
        "end": 0.01,
    }
    average = {"players": ("generator",), "half_life": 20_000.0}
    config.train = {"steps": 24_000, "steps_per_call": 20, "log_every": 1000, "averages": {"eval": average}}
    config.evaluate = {"samples": 2500}
    if size == "smoke":
        config.data.update({"batch": 8, "limit": 500})
        config.model.network.update({"width": 8, "depth": 2})
        config.train.update({"steps": 8, "steps_per_call": 2, "log_every": 2, "checkpoint_every": 4})
        config.evaluate.samples = 64
    return config
