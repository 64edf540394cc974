"""pix2pix from one style of emoji to another, 32x32 in colour, from pairs.

GENJAX_ORIGINALS=... genjax train --config=emoji/pix2pix

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny players."""
    config = ConfigDict()
    config.name = "emoji-pix2pix"
    config.data = {"name": "emoji_styles:paired", "batch": 16}
    config.model = {"name": "translation", "kind": "pairs", "network": "unet", "halvings": 5}
    config.optimizer = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "schedule": "linear", "end": 0.0}
    average = {"players": ("generator",), "half_life": 5000.0}
    config.train = {"steps": 4000, "averages": {"eval": average}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 4, "critic_width": 4})
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
