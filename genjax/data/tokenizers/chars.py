"""Use the characters of a text as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers._interface import Options, Tokenizer
from genjax.errors import DataError


class Chars(Tokenizer):
    """Represent text with one token per character (Unicode code point), in code point order.

    Args:
      alphabet: the known characters.
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
        # searchsorted gives the place at which an unknown code would be inserted: compare to detect it.
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


def fit(text: str, options: Options, also: str = "") -> Chars:
    """Return the tokenizer of all characters in both texts."""
    return Chars(text + also, options.marks)


def from_json(data: Mapping[str, Any]) -> Chars:
    """Return the tokenizer that `to_json` turned into `data`."""
    return Chars(data["alphabet"], data.get("marks", ()))


def _codes(text: str) -> np.ndarray:
    """Return the code points of a text, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
