"""Metrics and protocols: what a model's scores mean. Knows no model; see judge.py and ruler.py.

Names are imported when they are used, so that `genjax.evaluation.Config` and scores cost no import of jax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genjax.evaluation.config import METRICS, Config, Features
    from genjax.evaluation.judge import evaluate, floor
    from genjax.evaluation.ruler import Ruler
    from genjax.evaluation.scores import Column, Score, read, table, write

__all__ = [
    "METRICS",
    "Column",
    "Config",
    "Features",
    "Ruler",
    "Score",
    "evaluate",
    "floor",
    "read",
    "table",
    "write",
]

_HOMES = {
    **dict.fromkeys(("METRICS", "Config", "Features"), "config"),
    **dict.fromkeys(("evaluate", "floor"), "judge"),
    "Ruler": "ruler",
    **dict.fromkeys(("Column", "Score", "read", "table", "write"), "scores"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
