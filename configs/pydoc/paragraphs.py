"""GPT on whole paragraphs of the prose of Python's documentation, packed into rows of 256 bytes.

    genjax train --config=pydoc/paragraphs

No paragraph is read in the context of another one: attention and positions restart at each of them.
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps."""
    config = ml_collections.ConfigDict()
    config.name = "pydoc-paragraphs"
    config.data = {"name": "pydoc", "batch": 12, "length": 256, "documents": "\n\n", "pack": True}
    config.model = {
        "name": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 128,
        "norm": "rmsnorm",
        "activation": "relu2",
        "position": "rope",
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "b2": 0.99,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.05,
        "end": 0.1,
        "clip": 1.0,
    }
    config.train = {"steps": 2000, "eval_every": 500, "eval_batches": 4}
    config.sample = {"temperature": 0.8}
    if size == "smoke":
        config.data.update({"batch": 4, "length": 48})
        config.model.update({"layers": 1, "heads": 2, "width": 16})
        config.optimizer.warmup = 2
        config.train.update({"steps": 8, "eval_every": 0, "eval_batches": 1})
    return config
