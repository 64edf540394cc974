"""The modern form of GPT on the characters of tiny_shakespeare, in the setting of shakespeare/gpt2.

    genjax train --config=shakespeare/gpt

RMSNorm, rotary positions, normalised queries and keys, a squared ReLU, and an untied head, which has about as
many parameters as the learned positions of GPT-2.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on text that needs no download."""
    config = ml_collections.ConfigDict()
    config.name = "shakespeare-gpt"
    config.data = {"name": "tfds:tiny_shakespeare", "tokenizer": "chars", "batch": 12, "length": 64}
    config.data.eval_split = "validation+test"
    config.model = {
        "name": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "norm": "rmsnorm",
        "activation": "relu2",
        "position": "rope",
        "qk_norm": True,
        "condition_dropout": 0.0,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "b1": 0.9,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.05,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "eval_every": 500}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.update({"name": "pydoc", "eval_split": None, "batch": 4, "length": 16})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
