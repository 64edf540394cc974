"""StyleGAN2 with adaptive discriminator augmentation on 1,711 emoji of 32x32 pixels in colour.

GENJAX_ORIGINALS=... genjax train --config=emoji/stylegan2

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "emoji-stylegan2"
    config.data = {"name": "emoji:google", "batch": 32}
    config.model = {
        "name": "gan",
        "network": {"name": "stylegan2", "width": 32, "widest": 64, "style": 64},
        "r1": 0.3,
        "interval": 16,
        "augment": {"kind": "ada", "examples": 100_000.0},
    }
    config.optimizer = {"name": "adam", "learning_rate": 2e-3, "b1": 0.0, "b2": 0.99}
    average = {"players": ("generator",), "half_life": 10_000.0}
    config.train = {"steps": 5000, "averages": {"eval": average}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"latent": 8, "interval": 2})
        config.model.network.update({"width": 4, "widest": 8, "style": 8, "layers": 2})
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
