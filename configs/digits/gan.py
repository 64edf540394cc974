"""DCGAN on the 8x8 digits, conditional on the class, with an R1 penalty on the real images.

genjax train --config=digits/gan
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "digits-gan"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "gan", "network": {"name": "dcgan", "width": 16}, "r1": 0.3}
    config.optimizer = {"name": "adam", "learning_rate": 2e-3, "b1": 0.0}
    config.optimizers = {"discriminator": {"learning_rate": 1e-3}}
    # Sampling uses the generator alone, so that only the generator is averaged.
    average = {"players": ("generator",), "half_life": 10_000.0}
    config.train = {"steps": 2000, "averages": {"eval": average}}
    if size == "smoke":
        config.data.batch = 8
        config.model.latent = 8
        config.model.network.width = 8
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
