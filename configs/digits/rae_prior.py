"""A class-conditional Gaussian mixture over the codes of a regularised autoencoder of the 8x8 digits.

genjax train --config=digits/rae_prior
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    config = ConfigDict()
    config.name = "digits-rae-prior"
    config.data = {"name": "digits", "batch": 250}
    config.stages = {"codec": {"config": f"digits/rae:{size}"}}
    config.model = {"name": "latent", "prior": {"name": "mixture", "components": 2, "ridge": 1e-3}}
    config.train = {"steps": 400}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.components = 1
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
