"""Text to integers and back. A tokenizer is saved with the dataset's description and read again from it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import ConfigError, nearest

__all__ = ["KINDS", "Options", "Tokenizer", "fit", "from_json"]

KINDS: dict[str, str] = {
    "bytes": "plain.Bytes",
    "chars": "plain.Chars",
    "words": "words.Words",
    "bpe": "subwords.BPE",
    "hf": "subwords.File",
    "chords": "chords.Chords",
}
"""Each kind's class in this package, imported when it is first asked for."""


def fit(kind: str, text: str, options: Options = Options(), also: str = "") -> Tokenizer:
    """The tokenizer of this kind for this text: see Tokenizer.fit."""
    return _kind(kind).fit(text, options, also)


def from_json(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `to_json` this is."""
    return _kind(data["kind"]).from_json(data)


def _kind(kind: str) -> type[Tokenizer]:
    if kind not in KINDS:
        raise ConfigError(f"unknown tokenizer {kind!r}{nearest(kind, KINDS)}", f"one of {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(".")
    return getattr(importlib.import_module(f"genjax.data.tokenizers.{module}"), name)
