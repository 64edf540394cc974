"""Class labels: one integer in [0, levels) for each row. Grids and plots of targets are ordered by them."""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax.errors import ConfigError
from genjax.kinds._interface import Field
from genjax.spec import Element

OPTION = "label"


def prompts(element: Element, index: np.ndarray) -> np.ndarray:
    """Return every class in turn: index modulo the number of classes, int32."""
    return (np.asarray(index) % (element.levels or 1)).astype(np.int32)


def describe(field: Field) -> list[tuple[str, str]]:
    """Return the names of the classes, if they are known and few."""
    known = len(field.classes) == field.element.levels and len(field.classes) <= 100
    return [(f"{field.name} classes", ", ".join(field.classes))] if known else []


def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
    """Return one class, by number or by name, for all rows."""
    classes = element.levels or 0
    names = list(getattr(context, "classes", ()))
    chosen = names.index(given) if given in names else _number(given)
    if not 0 <= chosen < classes:
        raise ConfigError(
            f"--{OPTION}={given}: no such class of {name!r}",
            f"classes are 0 to {classes - 1}" + (f": {', '.join(names[:20])}" if names else ""),
        )
    return {name: np.full(num, chosen, np.int32)}


def _number(given: str) -> int:
    """Return the number, or -1 for text that is none."""
    try:
        return int(given)
    except ValueError:
        return -1
