"""A GRU on Bach's chorales as piano rolls: as chorales/lstm, with another cell.

GENJAX_ORIGINALS=... genjax train --config=chorales/gru
"""

from __future__ import annotations

import ml_collections

from genjax import settings


def get_config(size: str = "full") -> ml_collections.ConfigDict:
    """Return the config; "smoke" trains a tiny network for a few steps on short rows of the same data."""
    config = settings.load(f"chorales/lstm:{size}")
    config["name"] = "chorales-gru"
    config["model"]["cell"] = "gru"
    return ml_collections.ConfigDict(config)
