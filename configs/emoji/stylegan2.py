"""StyleGAN2 with adaptive discriminator augmentation on 1,711 emoji of 32x32 pixels in colour.

GENJAX_ORIGINALS=... genjax train --config=emoji/stylegan2

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "emoji-stylegan2"
    config.data = {"name": "emoji:google", "batch": 16}
    config.model = {
        "name": "gan",
        # Without noise the samples of short trials were cleaner.
        "network": {
            "name": "stylegan2",
            "width": 16,
            "widest": 64,
            "style": 64,
            "noise": False,
            "mixing": 0.0,
        },
        "r1": 0.05,
        "interval": 16,
        "augment": {"kind": "ada", "examples": 50_000.0},
    }
    config.optimizer = {"name": "adam", "learning_rate": 3e-3, "b1": 0.0, "b2": 0.99}
    average = {"players": ("generator",), "half_life": 10_000.0}
    config.train = {"steps": 24_000, "averages": {"eval": average}}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"latent": 8, "interval": 2})
        config.model.network.update({"width": 4, "widest": 8, "style": 8, "layers": 2})
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
