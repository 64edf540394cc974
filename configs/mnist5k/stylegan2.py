"""StyleGAN2 on the 28x28 digits, conditional on the class, with lazy R1 and path length regularisation.

genjax train --config=mnist5k/stylegan2

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "mnist5k-stylegan2"
    config.data = {"name": "mnist5k", "batch": 32}
    config.model = {
        "name": "gan",
        "network": {"name": "stylegan2", "width": 16, "widest": 64, "style": 64},
        "r1": 0.3,
        "interval": 16,
        "path_length": 2.0,
        "path_interval": 8,
    }
    config.optimizer = {"name": "adam", "learning_rate": 2e-3, "b1": 0.0, "b2": 0.99}
    average = {"players": ("generator",), "half_life": 10_000.0}
    config.train = {"steps": 2000, "averages": {"eval": average}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"latent": 8, "interval": 2, "path_interval": 2})
        config.model.network.update({"width": 4, "widest": 8, "style": 8, "layers": 2})
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
