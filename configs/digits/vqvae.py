"""VQ-VAE on the 8x8 digits: 4x4 codes of 64.

    genjax train --config=digits/vqvae

digits/vq_prior trains it and a GPT over its codes.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-vqvae"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "vqvae", "codes": 64, "features": 8, "halvings": 1, "smallest": 0.1}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 2000, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "codes": 8, "features": 4, "depth": 2, "rounds": 2, "blocks": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
