"""Use the bytes of UTF-8 as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers._interface import Options, Tokenizer


class Bytes(Tokenizer):
    """Represent text as UTF-8 bytes: 256 tokens, and no text is unknown.

    Args:
      marks: names of special tokens, which are tokens 256, 257 ...
    """

    kind: ClassVar[str] = "bytes"

    def __init__(self, marks: Iterable[str] = ()):
        self.marks = tuple(marks)

    @property
    def vocabulary(self) -> int:
        return 256 + len(self.marks)

    @property
    def special(self) -> Mapping[str, int]:
        return {name: 256 + i for i, name in enumerate(self.marks)}

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of a sequence of tokens; bytes that are not UTF-8 become U+FFFD."""
        return bytes(t for t in map(int, tokens) if t < 256).decode("utf-8", errors="replace")

    def token_bytes(self) -> list[bytes]:
        return [bytes([b]) for b in range(256)] + [b""] * len(self.marks)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **({"marks": list(self.marks)} if self.marks else {})}


def fit(text: str, options: Options, also: str = "") -> Bytes:
    """Return the tokenizer, which is the same for every text."""
    return Bytes(options.marks)


def from_json(data: Mapping[str, Any]) -> Bytes:
    """Return the tokenizer that `to_json` turned into `data`."""
    return Bytes(data.get("marks", ()))
