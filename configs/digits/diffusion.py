"""DDPM on scikit-learn's 8x8 digits, conditional on the class.

    genjax train --config=digits/diffusion

Predicting the velocity under the cosine schedule puts the class into the samples within few steps: at the
noisiest times the target is the (negated) image itself, where predicting the noise says nothing of it.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """The config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-diffusion"
    config.data = {"name": "digits", "batch": 64}
    config.model = {
        "name": "diffusion",
        "width": 32,
        "multipliers": (1, 2),
        "blocks": 1,
        "schedule": "cosine",
        "prediction": "velocity",
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1.5e-3,
        "schedule": "cosine",
        "warmup": 20,
        "end": 0.02,
    }
    config.train = {"steps": 900, "averages": {"eval": {"half_life": 4000.0}}, "checkpoint_every": 300}
    config.sample = {"sampler": "ddim", "steps": 50, "guidance": 1.0}
    if size == "smoke":
        config.update(
            {
                "data": {"batch": 8},
                "model": {"width": 8, "timesteps": 50},
                "optimizer": {"warmup": 2},
                "train": {"steps": 8, "checkpoint_every": 4},
                "sample": {"steps": 4},
            }
        )
    return config
