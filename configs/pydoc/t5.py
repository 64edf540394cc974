"""T5 on the prose of Python's own documentation: byte-level BPE, prediction of dropped spans.

genjax train --config=pydoc/t5
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on bytes."""
    config = ml_collections.ConfigDict()
    config.name = "pydoc-t5"
    config.data = {"name": "pydoc", "batch": 32, "length": 63, "tokenizer": "bpe", "vocabulary": 2048}
    config.model = {
        "name": "t5",
        "layers": 2,
        "heads": 4,
        "width": 128,
        "mlp": 8 / 3,
        "activation": "geglu",
        "tied": False,
        "scale_logits": False,
        "dropout": 0.0,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.067,
        "end": 0.1,
        "clip": 1.0,
    }
    config.train = {"steps": 1500, "eval_every": 300}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data = {"name": "pydoc", "batch": 4, "length": 16}
        config.model.update({"layers": 1, "heads": 2, "width": 16, "mlp": 2.0})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
