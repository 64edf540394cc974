"""BERT on the prose of Python's own documentation: byte-level BPE, masked tokens.

genjax train --config=pydoc/bert
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on bytes."""
    config = ml_collections.ConfigDict()
    config.name = "pydoc-bert"
    config.data = {"name": "pydoc", "batch": 64, "length": 63, "tokenizer": "bpe", "vocabulary": 2048}
    # In the paper's form (post-norm, learned positions) with AdamW, 1,500 steps of 32 rows learned only the
    # frequencies of tokens: 5.58 nats.
    config.model = {
        "name": "bert",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "prenorm": True,
        "position": "rope",
        "dropout": 0.1,
    }
    config.optimizer = {
        "name": "muon",
        "learning_rate": 5e-3,
        "b2": 0.98,
        "weight_decay": 0.5,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.05,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "eval_every": 500}
    config.sample = {"steps": 24}
    if size == "smoke":
        config.data = {"name": "pydoc", "batch": 4, "length": 16}
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
        config.sample.steps = 4
    return config
