"""A GRU on the characters of tiny_shakespeare: as shakespeare/lstm, with another cell.

genjax train --config=shakespeare/gru
"""

from __future__ import annotations

import ml_collections

from genjax import settings


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps."""
    config = settings.load(f"shakespeare/lstm:{size}")
    config["name"] = "shakespeare-gru"
    config["model"]["cell"] = "gru"
    return ml_collections.ConfigDict(config)
