"""An Elman network on the prose of Python's documentation: as pydoc/lstm, with another cell.

genjax train --config=pydoc/rnn
"""

from __future__ import annotations

import ml_collections

from genjax import settings


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps."""
    config = settings.load(f"pydoc/lstm:{size}")
    config["name"] = "pydoc-rnn"
    config["model"]["cell"] = "elman"
    config["optimizer"]["learning_rate"] = 1e-3
    return ml_collections.ConfigDict(config)
