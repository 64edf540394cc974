"""Captions: a short text for each row as padded tokens, with `<name>_mask` where tokens are text."""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax.kinds import _text
from genjax.kinds._interface import Field, Unit
from genjax.kinds.tokens import SUFFIX, card, preview, save
from genjax.spec import Element

__all__ = ["OPTION", "SUFFIX", "UNIT", "captions", "card", "parse", "preview", "save"]

UNIT = Unit("nats_per_token", "Nats per token", "nats", "coherence")
OPTION = "prompt"


def captions(field: Field) -> list[str] | None:
    """Return the text of each row."""
    return _text.texts(field)


def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
    """Return the caption, padded, and its mask, for all rows."""
    tokens = _text.encode(given, context, OPTION)
    row = _text.padded(tokens, name, element, context, OPTION)
    mask = (np.arange(len(row)) < len(tokens)).astype(np.float32)
    return {name: np.tile(row, (num, 1)), f"{name}_mask": np.tile(mask, (num, 1))}
