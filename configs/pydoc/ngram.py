"""Modified Kneser-Ney 6-gram on the prose of Python's documentation, byte by byte, in one pass.

genjax train --config=pydoc/ngram
"""

from __future__ import annotations

import ml_collections


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" reads a small part of the data."""
    config = ml_collections.ConfigDict()
    config.name = "pydoc-ngram"
    config.data = {"name": "pydoc", "batch": 32, "eval_batch": 128, "length": 256, "order": "once"}
    config.model = {"name": "ngram", "order": 6, "smoothing": "kneser_ney"}
    config.train = {"steps": 54, "log_every": 10}
    config.sample = {"temperature": 1.0}
    if size == "smoke":
        config.data.update({"batch": 8, "eval_batch": 64, "length": 16, "limit": 200})
        config.model.update({"order": 3})
        config.train.update({"steps": 8, "log_every": 4})
    return config
