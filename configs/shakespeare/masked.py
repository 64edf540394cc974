"""Masked diffusion of the characters of tiny_shakespeare, with the width and the layers of shakespeare/gpt.

genjax train --config=shakespeare/masked

BERT's network with absorbing states (MDLM, Sahoo et al. 2024, arXiv:2406.07524); its score is a bound.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on text that needs no download."""
    config = ml_collections.ConfigDict()
    config.name = "shakespeare-masked"
    config.data = {"name": "tfds:tiny_shakespeare", "tokenizer": "chars", "batch": 32, "length": 128}
    config.data.eval_split = "validation+test"
    config.model = {
        "name": "bert",
        "objective": "absorbing",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "prenorm": True,
        "norm": "rmsnorm",
        "activation": "relu2",
        "position": "rope",
        "dropout": 0.0,
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 5e-3,
        "b2": 0.98,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.05,
        "clip": 1.0,
    }
    config.train = {"steps": 3000, "eval_every": 500}
    config.sample = {"schedule": "linear", "steps": 64, "choice": 10_000.0}
    if size == "smoke":
        config.data.update({"name": "pydoc", "eval_split": None, "batch": 4, "length": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
        config.sample.steps = 4
    return config
