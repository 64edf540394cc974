"""RealNVP on 5,000 28x28 digits, conditional on the class, with uniform dequantisation.

genjax train --config=mnist5k/flow
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-flow"
    config.data = {"name": "mnist5k", "batch": 32}
    config.model = {"name": "flow", "width": 64, "steps": 4, "mixing": "reverse", "checkerboard": 4}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 1500, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "steps": 1, "checkerboard": 1})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
