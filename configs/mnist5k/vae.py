"""VAE on the 28x28 digits, conditional on the class, with a discretised likelihood.

    genjax train --config=mnist5k/vae

The prior is learned: under a standard normal, images whose pixels are almost free of noise need so many nats
of KL that most draws of the prior lie where no image does.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-vae"
    config.data = {"name": "mnist5k", "batch": 64}
    config.model = {"name": "vae", "latent": 16, "prior": {"kind": "coupling"}}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "latent": 4})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
