"""Latent diffusion on the 8x8 digits: an unconditional VAE codec and a class-conditional prior.

genjax train --config=digits/latent

One command trains the codec (runs/stages/digits-codec-...), then the prior over its codes.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    config = ConfigDict()
    config.name = "digits-latent"
    config.data = {"name": "digits", "batch": 128}
    codec = "digits/vae:smoke" if size == "smoke" else "digits/vae"
    overrides = ["name=digits-codec", "model.conditional=False"]
    if size != "smoke":
        overrides += ["train.steps=1500", "train.eval_every=0"]
    config.stages = {"codec": {"config": codec, "overrides": tuple(overrides)}}
    prior = {
        "name": "diffusion",
        "network": "mlp",
        "width": 256,
        "blocks": 3,
        "schedule": "cosine",
        "prediction": "velocity",
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
    config.sample = {"steps": 50, "guidance": 1.5}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.update({"width": 16, "blocks": 1, "timesteps": 50})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
        config.sample.steps = 4
    return config
