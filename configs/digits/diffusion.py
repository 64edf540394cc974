"""Flow matching with a small diffusion transformer on scikit-learn's 8x8 digits, conditional on the class.

    genjax train --config=digits/diffusion
    genjax evaluate runs/digits-diffusion --features=classifier:digits/classifier

With --config.train.steps=600, 99.4% of the samples had the requested class according to the classifier, 95%
interval 98.7 to 99.8%. AdamW at 3e-3 in place of Muon reached 93.0% and a Fréchet distance of 18.6 instead of
9.7; AdamW with uniform training times reached 79.7%.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-diffusion"
    config.data = {"name": "digits", "batch": 64}
    config.model = {
        "name": "diffusion",
        "network": "transformer",
        "width": 96,
        "blocks": 3,
        "head": 24,
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
    config.train = {"steps": 900, "averages": {"eval": {"half_life": 4000.0}}, "checkpoint_every": 300}
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
