"""CycleGAN from MNIST to USPS, 16x16: digits of one domain in the style of another.

GENJAX_ORIGINALS=... genjax train --config=mnist_usps/cyclegan

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "mnist-usps-cyclegan"
    config.data = {"name": "mnist_usps", "batch": 32}
    config.model = {"name": "translation", "halvings": 1, "blocks": 3}
    config.optimizer = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "schedule": "linear", "end": 0.0}
    average = {"players": ("generator",), "half_life": 5000.0}
    config.train = {"steps": 4000, "averages": {"eval": average}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 4, "critic_width": 4, "blocks": 1, "buffer": 4, "cycle": 1.0})
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
