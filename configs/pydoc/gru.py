"""A GRU on the prose of Python's documentation: as pydoc/lstm, with another cell.

genjax train --config=pydoc/gru
"""

from __future__ import annotations

import ml_collections

from genjax import settings


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps."""
    config = settings.load(f"pydoc/lstm:{size}")
    config["name"] = "pydoc-gru"
    config["model"]["cell"] = "gru"
    return ml_collections.ConfigDict(config)
