"""Beta-TCVAE on white shapes of known position, scale and rotation (the factors of dSprites).

    genjax train --config=sprites/vae
    genjax train --config=sprites/vae --config.model.regulariser="{'kind': 'kl'}"

The second command trains the plain VAE.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "sprites-vae"
    config.data = {"name": "shapes:sprites", "batch": 128}
    config.model = {
        "name": "vae",
        "network": "mlp",
        "hidden": (400, 400),
        "activation": "relu",
        "latent": 10,
        "likelihood": "bernoulli",
        "regulariser": {"kind": "tc", "weight": 5.0},
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.02,
        "end": 0.1,
    }
    config.train = {"steps": 6000, "eval_every": 3000, "eval_batches": 8}
    config.evaluate = {"samples": 5000}
    if size == "smoke":
        config.data.update({"batch": 8, "size": 16})
        config.model.update({"hidden": (16,), "latent": 4})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4, "eval_batches": 2})
        config.evaluate.samples = 64
    return config
