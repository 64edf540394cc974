"""Flow matching with a diffusion transformer on 5,000 MNIST digits, conditional on the class.

    genjax train --config=mnist5k/diffusion

The transformer of digits/diffusion, wider, on 49 patches of 4x4 pixels.
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
        "network": "transformer",
        "width": 128,
        "blocks": 4,
        "head": 32,
        "patch": 4,
        "schedule": "straight",
        "prediction": "flow_velocity",
        "times": "logit_normal",
        "variance": "large",
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 6e-3,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.1,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 8000.0}}, "checkpoint_every": 500}
    config.sample = {"sampler": "ddim", "steps": 25, "guidance": 1.5}
    if size == "smoke":
        config.update(
            {
                "data": {"batch": 8},
                "model": {"width": 16, "blocks": 1, "head": 8, "timesteps": 50},
                "optimizer": {"warmup": 2},
                "train": {"steps": 8, "checkpoint_every": 4},
                "sample": {"steps": 4},
            }
        )
    return config
