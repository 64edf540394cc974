"""Hierarchical VAE with top-down inference on MNIST, binarised by a draw at every presentation.

    genjax train --config=mnist/hvae

The training of mnist/vae, with two stochastic layers of 100 and 50 in place of one of 50. Each may carry
6 nats at no cost (`free_bits`).
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network on digits that need no download."""
    config = ConfigDict()
    config.name = "mnist-hvae"
    config.data = {"name": "tfds:mnist", "eval_split": "test", "binarise": "draw", "batch": 20}
    config.model = {
        "name": "hvae",
        "network": "mlp",
        "hidden": (200, 100),
        "latents": (100, 50),
        "activation": "tanh",
        "likelihood": "bernoulli",
        "conditional": False,
        "free_bits": 6.0,
    }
    config.optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "eps": 1e-4,
        "schedule": "cosine",
        "end": 0.1,
    }
    config.train = {"steps": 60_000, "eval_every": 15_000}
    config.evaluate = {"importance_samples": 5000}
    if size == "smoke":
        config.data.update({"name": "mnist5k", "eval_split": None, "batch": 8})
        config.model.update({"hidden": (16, 8), "latents": (4, 3)})
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
        config.evaluate.importance_samples = 8
    return config
