"""infinity-gram on the characters of tiny_shakespeare: one pass, then a suffix array.

genjax train --config=shakespeare/infinigram
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" reads a small part of a text that needs no download."""
    config = ml_collections.ConfigDict()
    config.name = "shakespeare-infinigram"
    config.data = {
        "name": "tfds:tiny_shakespeare",
        "tokenizer": "chars",
        "eval_split": "validation+test",
        "batch": 32,
        "eval_batch": 128,
        "length": 256,
        "order": "once",
    }
    config.model = {
        "name": "infinigram",
        "order": 6,
        "mixed": 4,
        "strength": 200.0,
        "decay": 0.8,
        "depth": 32,
    }
    config.train = {"steps": 123, "log_every": 10}
    config.sample = {"temperature": 1.0}
    if size == "smoke":
        config.data.update(
            {"name": "pydoc", "eval_split": None, "batch": 8, "eval_batch": 64, "length": 16, "limit": 200}
        )
        config.model.update({"order": 2, "mixed": 2, "depth": 6})
        config.train.update({"steps": 8, "log_every": 4})
    return config
