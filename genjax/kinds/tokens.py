"""Text as tokens: integers in [0, vocabulary). Running text, or one whole sequence with its length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files
from genjax.kinds import _text
from genjax.kinds._interface import Defaults, Field, Unit
from genjax.kinds._text import texts
from genjax.markup import Html, tag
from genjax.spec import Element

UNIT = Unit("nats_per_token", "Nats per token", "nats", "coherence")
RUNNING = True
OPTION = "prompt"
SUFFIX = ".txt"
SHOWN = 8
"""Texts on a card."""


def describe(field: Field) -> list[tuple[str, str]]:
    """Return the mean and largest length of whole sequences."""
    lengths = field.beside("length")
    if lengths is None:
        return []
    return [(f"{field.name} lengths", f"{lengths.mean():.1f} tokens on average, at most {lengths.max()}")]


def preview(field: Field, captions: Sequence[str] | None = None) -> str | None:
    """Return a line for each row, after the text that it answers."""
    found = texts(field)
    if found is None:
        return None
    if captions is None:
        return "\n".join(f"[{i}] {text!r}" for i, text in enumerate(found))
    return "\n".join(f"[{i}] {a} → {b}" for i, (a, b) in enumerate(zip(captions, found, strict=True)))


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write a text file with all rows, each below the text that it answers; an npz without a tokenizer."""
    found = texts(field)
    if found is None:
        return Defaults.save(field, path, columns)
    answers = _answers(found, captions)
    return files.write_text(path.with_suffix(SUFFIX), _text.SEPARATOR.join(answers) + "\n")


def _answers(found: Sequence[str], captions: Sequence[str] | None) -> list[str]:
    if captions is None:
        return list(found)
    return [f"{a}\n→ {b}" for a, b in zip(captions, found, strict=True)]


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html | None:
    """Return the first texts; None without a tokenizer."""
    del alt, scale_with
    found = texts(field.first(SHOWN))
    if found is None:
        return None
    written = _answers(found, None if captions is None else captions[:SHOWN])
    return tag("pre", _text.SEPARATOR.join(written), class_="text")


def captions(field: Field) -> list[str] | None:
    """Return the text of each row."""
    return texts(field)


def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
    """Return a condition as a padded sequence with its length, or the beginning of running text."""
    tokens = _text.encode(given, context, OPTION)
    if element.role != "condition":
        return {name: np.tile(tokens, (num, 1))}
    if "eos" in context.spec.special:
        tokens = np.append(tokens, context.spec.special["eos"])
    row = _text.padded(tokens, name, element, context, OPTION)
    return {name: np.tile(row, (num, 1)), f"{name}_length": np.full(num, len(tokens), np.int32)}
