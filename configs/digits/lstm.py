"""An LSTM on the 8x8 digits, pixel by pixel in raster order after a start token that carries the label.

genjax train --config=digits/lstm
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a few steps of a tiny network."""
    config = ml_collections.ConfigDict()
    config.name = "digits-lstm"
    config.data = {"name": "digits", "batch": 32}
    config.model = {"name": "rnn", "cell": "lstm", "layers": 2, "width": 128, "dropout": 0.1}
    config.optimizer = {
        "name": "adam",
        "learning_rate": 3e-3,
        "b2": 0.99,
        "schedule": "cosine",
        "warmup": 0.033,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 1500, "averages": {"eval": {"half_life": 3000.0}}, "eval_every": 500}
    config.sample = {"temperature": 1.0}
    if size == "smoke":
        config.data.batch = 8
        config.model.update({"layers": 1, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 4})
    return config
