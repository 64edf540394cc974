"""VQ-VAE on 1,711 emoji of 32x32 pixels in colour: 8x8 codes of 256.

GENJAX_ORIGINALS=... genjax train --config=emoji/vqvae
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "emoji-vqvae"
    config.data = {"name": "emoji:google", "batch": 64}
    # The averages follow the encoder in the few steps that there are.
    config.model = {"name": "vqvae", "codes": 256, "features": 16, "smallest": 0.02}
    config.model.update({"decay": 0.9, "revive": 1.0})
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 1000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 250}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "codes": 8, "features": 4, "rounds": 2, "blocks": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
