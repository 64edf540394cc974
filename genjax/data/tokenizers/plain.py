"""Bytes and characters: no text is lost, no token is special."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import DataError


class Bytes(Tokenizer):
    """UTF-8 bytes: 256 tokens, no unknown text."""

    kind: ClassVar[str] = "bytes"

    @property
    def vocabulary(self) -> int:
        return 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(t) & 255 for t in tokens).decode("utf-8", errors="replace")

    def token_bytes(self) -> list[bytes]:
        return [bytes([b]) for b in range(256)]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bytes:
        return cls()

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Bytes:
        return cls()


class Chars(Tokenizer):
    """One token a character (Unicode code point), in code point order.

    Args:
      alphabet: the characters that are known, each once.
    """

    kind: ClassVar[str] = "chars"

    def __init__(self, alphabet: str):
        codes = np.unique(_codes(alphabet))
        self.alphabet = "".join(map(chr, codes))
        self._codes = codes

    @property
    def vocabulary(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> np.ndarray:
        codes = _codes(text)
        tokens = np.searchsorted(self._codes, codes).clip(max=max(self.vocabulary - 1, 0))
        unknown = np.flatnonzero(self._codes[tokens] != codes) if self.vocabulary else np.arange(len(codes))
        if unknown.size:
            at = int(unknown[0])
            raise DataError(
                f"character {text[at]!r} at {at} is not among the {self.vocabulary} of this tokenizer",
                "use text of the same alphabet, or train with data.tokenizer='bytes'",
            )
        return tokens.astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.alphabet[int(t)] for t in tokens)

    def token_bytes(self) -> list[bytes]:
        return [c.encode("utf-8", errors="surrogatepass") for c in self.alphabet]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Chars:
        return cls(data["alphabet"])

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Chars:
        return cls(text + also)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
