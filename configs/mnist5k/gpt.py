"""GPT on 5,000 28x28 digits: sequences of 784 pixels after a start token that carries the label.

    genjax train --config=mnist5k/gpt

A pixel reads the four lines above it (windows of 112 pixels); one layer reads all pixels and the label. Small
batches with Muon give many updates.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ml_collections.ConfigDict()
    config.name = "mnist5k-gpt"
    config.data = {"name": "mnist5k", "batch": 8, "eval_batch": 64}
    config.model = {
        "name": "gpt",
        "layers": 3,
        "heads": 4,
        "width": 96,
        "position": "both",
        "windows": (112, 0, 112),
        "dropout": 0.1,
    }
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
    config.sample = {"temperature": 1.0}
    if size == "smoke":
        config.data.update({"batch": 2, "eval_batch": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 4, "eval_every": 0, "eval_batches": 2})
    return config
