"""DDPM with a residual MLP on the ring of 8 Gaussians, as an example of real-valued points.

genjax train --config=ring/diffusion
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "ring-diffusion"
    config.data = {"name": "ring", "batch": 256}
    config.model = {"name": "diffusion", "width": 128, "blocks": 3, "schedule": "cosine"}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.0167,
        "end": 0.01,
    }
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 50_000.0}}}
    config.sample = {"steps": 100}
    config.evaluate = {"samples": 2000}
    if size == "smoke":
        config.update(
            {
                "data": {"batch": 8, "limit": 500},
                "model": {"width": 8, "blocks": 1, "timesteps": 50},
                "optimizer": {"warmup": 2},
                "train": {"steps": 8, "checkpoint_every": 4},
                "sample": {"steps": 4},
                "evaluate": {"samples": 32},
            }
        )
    return config
