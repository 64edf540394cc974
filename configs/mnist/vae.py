"""VAE of Burda et al. 2016 (arXiv:1509.00519) on MNIST, binarised by a draw at every presentation.

    genjax train --config=mnist/vae
    genjax train --config=mnist/vae --config.model.bound='{"kind": "iwae", "samples": 5}'

One stochastic layer of 50, two hidden layers of 200 (tanh) in encoder and decoder, and batches of 20, as in
the paper. It trains for 3,280 epochs (9.84 million steps), with a learning rate that falls from 1e-3 to 1e-4
in steps; here it falls along a cosine, and the default is 20 epochs. experiments/iwae compares the bounds.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def get_config(size: str = "full") -> ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network on digits that need no download."""
    config = ConfigDict()
    config.name = "mnist-vae"
    config.data = {"name": "tfds:mnist", "eval_split": "test", "binarise": "draw", "batch": 20}
    config.model = {
        "name": "vae",
        "network": "mlp",
        "hidden": (200, 200),
        "activation": "tanh",
        "latent": 50,
        "likelihood": "bernoulli",
        "conditional": False,
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
        config.model.update({"hidden": (16,), "latent": 4})
        config.train.update({"steps": 8, "eval_every": 4, "checkpoint_every": 4})
        config.evaluate = {"importance_samples": 8}
    return config
