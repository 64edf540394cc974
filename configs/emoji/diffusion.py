"""Flow matching with a diffusion transformer on 1,711 emoji of 32x32 pixels in colour.

GENJAX_ORIGINALS=... genjax train --config=emoji/diffusion
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "emoji-diffusion"
    config.data = {"name": "emoji:google", "batch": 64}
    config.model = {
        "name": "diffusion",
        "network": "transformer",
        "width": 160,
        "blocks": 5,
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
        "warmup": 0.05,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 8000.0}}, "checkpoint_every": 250}
    config.sample = {"sampler": "heun", "steps": 18, "spacing": "karras", "guidance": 1.5}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 16, "blocks": 1, "head": 8, "timesteps": 50})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
        config.sample.steps = 4
    return config
