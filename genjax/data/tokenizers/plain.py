"""Text to integers and back. A tokenizer is saved with the dataset's description and read again from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from genjax.errors import ConfigError, DataError, nearest


class Tokenizer(Protocol):
    """Text to integers in [0, vocabulary) and back.

    Attributes:
      kind: its name in a config, and in to_json.
      vocabulary: V, how many tokens there are.
    """

    kind: ClassVar[str]

    @property
    def vocabulary(self) -> int: ...

    def encode(self, text: str) -> np.ndarray:
        """int32 tokens. DataError where the text cannot be written in this vocabulary."""
        ...

    def decode(self, tokens: Iterable[int]) -> str: ...

    def to_json(self) -> dict[str, Any]:
        """Plain data with "kind", from which `from_json` makes an equal tokenizer."""
        ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tokenizer: ...

    @classmethod
    def fit(cls, text: str) -> Tokenizer:
        """The tokenizer for this text."""
        ...


class Bytes:
    """UTF-8 bytes: 256 tokens, no unknown text."""

    kind: ClassVar[str] = "bytes"
    vocabulary = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(t) & 255 for t in tokens).decode("utf-8", errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bytes:
        return cls()

    @classmethod
    def fit(cls, text: str) -> Bytes:
        return cls()


class Chars:
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

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "alphabet": self.alphabet}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Chars:
        return cls(data["alphabet"])

    @classmethod
    def fit(cls, text: str) -> Chars:
        return cls(text)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


KINDS: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (Bytes, Chars)}


def fit(kind: str, text: str) -> Tokenizer:
    """The tokenizer of this kind for this text."""
    return _kind(kind).fit(text)


def from_json(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `to_json` this is."""
    return _kind(data["kind"]).from_json(data)


def _kind(kind: str) -> type[Tokenizer]:
    if kind not in KINDS:
        raise ConfigError(f"unknown tokenizer {kind!r}{nearest(kind, KINDS)}", f"one of {', '.join(KINDS)}")
    return KINDS[kind]
