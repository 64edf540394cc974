"""Regularised autoencoder (Ghosh et al. 2020, arXiv:1903.12436) on the 8x8 digits: a codec without a prior.

    genjax train --config=digits/rae
    genjax train --config=digits/rae_prior

The second command trains this codec first, then fits a Gaussian mixture to its codes.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-rae"
    config.data = {"name": "digits", "batch": 64}
    config.model = {
        "name": "vae",
        "posterior": "point",
        "conditional": False,
        "latent": 16,
        "likelihood": "normal",
        "scale": "fixed",
        "sigma": 0.3,
        "regulariser": {"kind": "gradient", "weight": 0.1},
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 1500, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "latent": 4})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
