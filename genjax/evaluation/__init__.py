"""Score models and real data under one protocol; see evaluator.py and reference.py.

No module here knows a model or names an element of the data.

Names are imported when they are used, so that `genjax.evaluation.Config` and scores cost no import of jax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genjax.evaluation import features, metrics
    from genjax.evaluation.config import Config
    from genjax.evaluation.context import Context
    from genjax.evaluation.evaluator import evaluate, floor
    from genjax.evaluation.features import Features, measurable
    from genjax.evaluation.reference import ReferenceStatistics
    from genjax.evaluation.requirements import Requirements
    from genjax.evaluation.scores import Column, Definition, Score, read, table, write

__all__ = [
    "Column",
    "Config",
    "Context",
    "Definition",
    "Features",
    "ReferenceStatistics",
    "Requirements",
    "Score",
    "evaluate",
    "features",
    "floor",
    "measurable",
    "metrics",
    "read",
    "table",
    "write",
]

_HOMES = {
    "Config": "config",
    "Context": "context",
    **dict.fromkeys(("Features", "measurable"), "features"),
    "ReferenceStatistics": "reference",
    "Requirements": "requirements",
    **dict.fromkeys(("evaluate", "floor"), "evaluator"),
    **dict.fromkeys(("Column", "Definition", "Score", "read", "table", "write"), "scores"),
}
_PACKAGES = ("features", "metrics")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
