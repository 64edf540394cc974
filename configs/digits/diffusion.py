"""DDPM on the 8x8 digits, conditional on the class.

    genjax train --config=configs/digits/diffusion.py
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """The config; "smoke" trains a few steps of a tiny network."""
    config = ml_collections.ConfigDict()
    config.name = "digits-diffusion"
    config.data = {"name": "digits", "batch": 128}
    config.model = {"name": "diffusion", "width": 32, "multipliers": (1, 2), "blocks": 1}
    config.optimizer = {"name": "adam", "learning_rate": 1e-3}
    config.train = {"steps": 500, "averages": {"eval": {"half_life": 4000.0}}}
    config.sample = {"sampler": "ddim", "steps": 50, "guidance": 1.0}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "timesteps": 50})
        config.train.steps = 8
        config.sample.steps = 4
    return config
