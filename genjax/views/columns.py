"""Name the auxiliary columns that accompany a target in a batch or in a prompt.

These names are a convention between data sources and models, like `mask` and `carry` (see core.Batch). Every
other column has the name that the spec gives it. Standard library only.
"""

from __future__ import annotations

TOKEN_MASK = "token_mask"
"""(B, L - 1) float32 beside a running target of L items: 0 where the next item is padding."""
SEGMENT = "segment"
"""(B, L) int32 beside a running target: the document of each item, counted from 1; 0 for padding."""
RESET = "reset"
"""(B,) float32: 1 where a row does not continue the previous row of its lane."""
LENGTH = "length"
"""(B,) int32: in a prompt, the items of each row that are given; in samples, the items that count."""
SOURCE = "source"
TARGET = "target"
"""The sides of a pair of which the data knows only one: running text whose spans are dropped."""


def length_of(name: str) -> str:
    """Return the name of the column with the length of each row of a whole sequence: `<name>_length`."""
    return f"{name}_{LENGTH}"
