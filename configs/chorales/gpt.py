"""A GPT on Bach's chorales as piano rolls: 88 keys a quarter note, whole pieces as rows.

    GENJAX_ORIGINALS=... genjax train --config=chorales/gpt

All 229 training pieces are in one key, and a transformer soon overfits them: it is trained on each piece in
eleven keys. Settings were chosen on the validation pieces.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on short rows of the same data."""
    config = ml_collections.ConfigDict()
    config.name = "chorales-gpt"
    config.data = {"name": "chorales", "batch": 16, "eval_batch": 77, "length": 159, "transpose": 5}
    config.model = {
        "name": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "norm": "rmsnorm",
        "activation": "relu2",
        "position": "rope",
        "windows": (8, 32),
        "dropout": 0.3,
        "condition_dropout": 0.1,
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 4e-3,
        "weight_decay": 0.3,
        "schedule": "cosine",
        "warmup": 0.042,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 1200, "averages": {"eval": {"half_life": 700.0}}, "eval_every": 200}
    config.sample = {"temperature": 0.9}
    if size == "smoke":
        config.data.update({"batch": 4, "eval_batch": 8, "length": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
