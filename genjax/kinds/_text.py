"""Turn rows of tokens into text and text into rows of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax.errors import ConfigError
from genjax.kinds._interface import Field
from genjax.spec import Element

SEPARATOR = "\n\n---\n\n"
"""Between two texts of a file."""


def texts(field: Field) -> list[str] | None:
    """Return every row as text; None without a tokenizer.

    A row with a length of its own (`<name>_length`, or `length` for running text) ends there; one with
    `<name>_mask` ends with its mask. A whole sequence also ends before its first eos.
    """
    if field.tokenizer is None:
        return None
    own = field.beside("length")
    lengths = _lengths(field)
    eos = field.special.get("eos") if own is not None else None
    rows = np.asarray(field.values)
    kept = rows if lengths is None else [row[:n] for row, n in zip(rows, lengths, strict=True)]
    return [field.tokenizer.decode(_before(row, eos)) for row in kept]


def _lengths(field: Field) -> np.ndarray | None:
    """Return how many tokens of each row are text, if a column says so."""
    for found in (field.beside("length"), field.rows.get("length")):
        if found is not None:
            return np.asarray(found)
    mask = field.beside("mask")
    return None if mask is None else (np.asarray(mask) > 0).sum(1)


def _before(row: np.ndarray, end: int | None) -> np.ndarray:
    """Return the tokens before the first `end`."""
    if end is None or not (row == end).any():
        return row
    return row[: int(np.argmax(row == end))]


def encode(given: str, context: Any, option: str) -> np.ndarray:
    """Return the tokens of a prompt (L) int32.

    Raises:
      ConfigError: the data is not text, or the prompt is empty.
    """
    if context.tokenizer is None:
        raise ConfigError(f"--{option}: {context.name} has no tokenizer", "use a run on text")
    tokens = np.asarray(context.tokenizer.encode(given), np.int32)
    if not len(tokens):
        raise ConfigError(f"--{option} is empty", "leave it out to sample without a prompt")
    return tokens


def padded(tokens: np.ndarray, name: str, element: Element, context: Any, option: str) -> np.ndarray:
    """Return tokens padded to the element's width.

    Raises:
      ConfigError: there are more tokens than the element holds.
    """
    width = element.shape[0]
    if len(tokens) > width:
        raise ConfigError(
            f"--{option} has {len(tokens)} tokens, and {name!r} holds at most {width}", "give a shorter text"
        )
    pad = context.spec.special.get("pad", 0)
    return np.pad(tokens, (0, width - len(tokens)), constant_values=pad).astype(np.int32)
