"""An LSTM on Bach's chorales as piano rolls: 88 keys a quarter note, whole pieces as rows.

    GENJAX_ORIGINALS=... genjax train --config=chorales/lstm

The nats of a frame are the sum over its 88 keys. The mean is over all frames except the first of each piece,
which is read and not predicted. experiments/jsb/RESULTS.md has the results.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on short rows of the same data."""
    config = ml_collections.ConfigDict()
    config.name = "chorales-lstm"
    config.data = {"name": "chorales", "batch": 16, "eval_batch": 77, "length": 159}
    config.model = {
        "name": "rnn",
        "cell": "lstm",
        "layers": 1,
        "width": 256,
        "dropout": 0.4,
        "recurrent_dropout": 0.2,
        "condition_dropout": 0.1,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 0.0125,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 1200, "averages": {"eval": {"half_life": 700.0}}, "eval_every": 300}
    config.sample = {"temperature": 0.9}
    if size == "smoke":
        config.data.update({"batch": 4, "eval_batch": 8, "length": 16})
        config.model.update({"layers": 1, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
