"""Two-stage VAE (Dai & Wipf 2019, arXiv:1903.05789) on the 8x8 digits: a VAE over the codes of a VAE.

    genjax train --config=digits/two_stage

One command trains the first VAE, which does not read the label, and the class-conditional second one.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    config = ConfigDict()
    config.name = "digits-two-stage"
    config.data = {"name": "digits", "batch": 128}
    overrides = ["name=digits-first-stage", "model.conditional=False"]
    if size != "smoke":
        overrides += ["train.steps=1500", "train.eval_every=0"]
    config.stages = {"codec": {"config": f"digits/vae:{size}", "overrides": tuple(overrides)}}
    prior = {
        "name": "vae",
        "network": "mlp",
        "hidden": (128, 128),
        "latent": 8,
        "likelihood": "normal",
        "scale": "shared",
        "sigma": 0.5,
        "smallest": 0.01,
    }
    config.model = {"name": "latent", "prior": prior}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.0167,
        "end": 0.02,
    }
    config.train = {"steps": 3000, "averages": {"eval": {"half_life": 20_000.0}}}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.update({"hidden": (8,), "latent": 3})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
    return config
