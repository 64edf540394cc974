"""VQ-VAE on 5,000 28x28 digits: 7x7 codes of 256. mnist5k/vq_prior trains it and a GPT over its codes.

    genjax train --config=mnist5k/vqvae
    genjax train --config=mnist5k/vqvae --config.model="{'name': 'vqvae', 'quantiser': 'scalar'}"

The second command trains FSQ with 240 codes.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-vqvae"
    config.data = {"name": "mnist5k", "batch": 64}
    # The averages follow the encoder in the few steps that there are.
    config.model = {"name": "vqvae", "codes": 256, "features": 16, "smallest": 0.1}
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
