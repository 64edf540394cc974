"""DCGAN on stacked MNIST, 16x16: 1,000 modes, the usual test of mode collapse on images.

GENJAX_ORIGINALS=... genjax train --config=stacked_mnist/gan
... --config.model.loss=relativistic --config.model.r1=1 --config.model.r2=1

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "stacked-mnist-gan"
    config.data = {"name": "stacked_mnist:16", "batch": 64}
    config.model = {"name": "gan", "network": {"name": "dcgan", "width": 16}, "conditional": False}
    config.optimizer = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5}
    average = {"players": ("generator",), "half_life": 10_000.0}
    config.train = {"steps": 5000, "averages": {"eval": average}}
    if size == "smoke":
        config.data.batch = 8
        config.model.latent = 8
        config.model.network.width = 8
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
