"""VAE on the ring of 8 Gaussians, with a learned prior.

genjax train --config=ring/vae
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ConfigDict()
    config.name = "ring-vae"
    config.data = {"name": "ring", "batch": 256}
    config.model = {
        "name": "vae",
        "network": "mlp",
        "hidden": (64, 64),
        "latent": 2,
        "likelihood": "normal",
        "scale": "shared",
        "smallest": 1e-3,
        "prior": {"kind": "coupling", "width": 64},
        "conditional": False,
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.02,
        "end": 0.01,
    }
    config.train = {"steps": 5000, "averages": {"eval": {"half_life": 50_000.0}}}
    config.evaluate = {"samples": 2000}
    if size == "smoke":
        config.data.update({"batch": 8, "limit": 500})
        config.model.hidden = (8,)
        config.model.prior.update({"couplings": 2, "width": 8})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "checkpoint_every": 4})
        config.evaluate.samples = 32
    return config
