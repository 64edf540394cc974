"""An LSTM on the characters of tiny_shakespeare, by truncated backpropagation over lanes.

genjax train --config=shakespeare/lstm
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on text that needs no download."""
    config = ml_collections.ConfigDict()
    config.name = "shakespeare-lstm"
    config.data = {
        "name": "tfds:tiny_shakespeare",
        "tokenizer": "chars",
        "eval_split": "validation+test",
        "batch": 12,
        "length": 64,
        "order": "lanes",
    }
    config.model = {"name": "rnn", "cell": "lstm", "layers": 2, "width": 256, "dropout": 0.1}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 3e-3,
        "b2": 0.99,
        "schedule": "cosine",
        "warmup": 0.025,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "eval_every": 500, "eval_batches": 4}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.update({"name": "pydoc", "eval_split": None, "batch": 4, "length": 16})
        config.model.update({"layers": 1, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
