"""GPT over the 7x7 codes of a VQ-VAE of the 28x28 digits, conditional on the class. One command trains both.

genjax train --config=mnist5k/vq_prior
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "mnist5k-vq-prior"
    config.data = {"name": "mnist5k", "batch": 64}
    config.stages = {"codec": {"config": f"mnist5k/vqvae:{size}"}}
    prior = {"name": "gpt", "layers": 4, "heads": 4, "width": 128, "dropout": 0.1}
    config.model = {"name": "latent", "prior": prior}
    config.optimizer = {
        "name": "muon",
        "learning_rate": 6e-3,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
