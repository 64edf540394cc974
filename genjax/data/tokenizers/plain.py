"""Bytes and characters: no text is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import DataError


class Bytes(Tokenizer):
    """UTF-8 bytes: 256 tokens, no unknown text.

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
        """Bytes that are not UTF-8 become U+FFFD."""
        return bytes(t for t in map(int, tokens) if t < 256).decode("utf-8", errors="replace")

    def token_bytes(self) -> list[bytes]:
        return [bytes([b]) for b in range(256)] + [b""] * len(self.marks)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **({"marks": list(self.marks)} if self.marks else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bytes:
        return cls(data.get("marks", ()))

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Bytes:
        return cls(options.marks)


class Chars(Tokenizer):
    """One token a character (Unicode code point), in code point order.

    Args:
      alphabet: the characters that are known.
      marks: names of special tokens, which follow the characters.
    """

    kind: ClassVar[str] = "chars"

    def __init__(self, alphabet: str, marks: Iterable[str] = ()):
        codes = np.unique(_codes(alphabet))
        self.alphabet = "".join(map(chr, codes))
        self._codes = codes
        self.marks = tuple(marks)

    @property
    def vocabulary(self) -> int:
        return len(self.alphabet) + len(self.marks)

    @property
    def special(self) -> Mapping[str, int]:
        return {name: len(self.alphabet) + i for i, name in enumerate(self.marks)}

    def encode(self, text: str) -> np.ndarray:
        codes = _codes(text)
        tokens = np.searchsorted(self._codes, codes).clip(max=max(len(self._codes) - 1, 0))
        unknown = np.flatnonzero(self._codes[tokens] != codes) if len(self._codes) else np.arange(len(codes))
        if unknown.size:
            at = int(unknown[0])
            raise DataError(
                f"character {text[at]!r} at {at} is not among the {len(self._codes)} of this tokenizer",
                "use text of the same alphabet, or train with data.tokenizer='bytes'",
            )
        return tokens.astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.alphabet[t] for t in map(int, tokens) if t < len(self.alphabet))

    def token_bytes(self) -> list[bytes]:
        return [c.encode("utf-8", errors="surrogatepass") for c in self.alphabet] + [b""] * len(self.marks)

    def to_json(self) -> dict[str, Any]:
        marks = {"marks": list(self.marks)} if self.marks else {}
        return {"kind": self.kind, "alphabet": self.alphabet, **marks}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Chars:
        return cls(data["alphabet"], data.get("marks", ()))

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Chars:
        return cls(text + also, options.marks)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
