"""Gaussian mixture by online EM on the ring of 8 Gaussians, which is one.

genjax train --config=ring/mixture
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny mixture."""
    config = ConfigDict()
    config.name = "ring-mixture"
    config.data = {"name": "ring", "batch": 256}
    config.model = {"name": "mixture", "components": 8, "conditional": False}
    config.train = {"steps": 500}
    config.evaluate = {"samples": 2000}
    if size == "smoke":
        config.data.update({"batch": 8, "limit": 500})
        config.model.components = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
        config.evaluate.samples = 32
    return config
