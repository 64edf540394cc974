"""Glow on the 8x8 digits, conditional on the class: exact density of dequantised pixels.

genjax train --config=digits/flow
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-flow"
    config.data = {"name": "digits", "batch": 64}
    config.model = {"name": "flow", "width": 64, "steps": 4}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "steps": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
