"""Super-resolution of emoji from 16x16 pixels to 32x32, by regression; with an adversary it is a GAN.

GENJAX_ORIGINALS=... genjax train --config=emoji/superres
GENJAX_ORIGINALS=... genjax train --config=emoji/superres --config.model.adversary="{'weight': 0.1}"

"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "emoji-superres"
    config.data = {"name": "emoji:google", "batch": 32, "downsample": 2}
    config.model = {"name": "superres"}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.025}
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 4, "blocks": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
