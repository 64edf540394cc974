"""GPT over the codes of a VQ-VAE on the 8x8 digits, conditional on the class. One command trains both.

genjax train --config=digits/vq_prior
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "digits-vq-prior"
    config.data = {"name": "digits", "batch": 64}
    config.stages = {"codec": {"config": f"digits/vqvae:{size}"}}
    config.model = {"name": "latent", "prior": {"name": "gpt", "layers": 3, "heads": 4, "width": 96}}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
    }
    config.train = {"steps": 1500, "averages": {"eval": {"half_life": 5000.0}}, "eval_every": 500}
    if size == "smoke":
        config.data.batch = 8
        config.model.prior.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
    return config
