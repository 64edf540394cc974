"""VQ-GAN of the 8x8 digits: a VQ-VAE with a patch discriminator and a perceptual distance.

    genjax train --config=digits/vqgan

One command trains the classifier whose activations the distance compares, then the codec.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of tiny networks."""
    config = ConfigDict()
    config.name = "digits-vqgan"
    config.data = {"name": "digits", "batch": 64}
    config.stages = {"features": {"config": f"digits/classifier:{size}"}}
    config.model = {
        "name": "vqvae",
        "codes": 64,
        "features": 8,
        "halvings": 1,
        "adversary": {"weight": 0.5, "start": 300, "layers": 1, "perceptual": 0.5},
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.optimizers = {"discriminator": {"name": "adam", "learning_rate": 5e-4, "b1": 0.5}}
    config.train = {"steps": 1500, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"width": 8, "codes": 8, "features": 4})
        config.model.adversary.update({"start": 2, "width": 8})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
