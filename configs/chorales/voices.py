"""A GPT on Bach's chorales as four voices: four tokens for each sixteenth note, soprano first.

    GENJAX_ORIGINALS=... genjax train --config=chorales/voices

A row holds eight bars. Each piece is trained on in eleven keys. The model is that of chorales/gpt.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on short rows of the same data."""
    config = ml_collections.ConfigDict()
    config.name = "chorales-voices"
    config.data = {"name": "chorales:voices", "batch": 16, "eval_batch": 64, "length": 512, "transpose": 5}
    config.model = {
        "name": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "norm": "rmsnorm",
        "activation": "relu2",
        "position": "rope",
        "windows": (32, 128),
        "dropout": 0.3,
        "condition_dropout": 0.0,
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 4e-3,
        "weight_decay": 0.3,
        "schedule": "cosine",
        "warmup": 0.125,
        "end": 0.01,
        "clip": 1.0,
    }
    config.train = {"steps": 400, "averages": {"eval": {"half_life": 700.0}}, "eval_every": 200}
    config.sample = {"temperature": 0.9}
    if size == "smoke":
        config.data.update({"batch": 4, "eval_batch": 8, "length": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
