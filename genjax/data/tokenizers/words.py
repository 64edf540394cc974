"""Words between white space, and line ends: the tokens of the classical language models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import ConfigError

UNKNOWN, END = "<unk>", "\n"
_TOKEN = re.compile(r"\n|[^\s]+")


class Words(Tokenizer):
    """One token a word (a run of characters without white space), and one for the end of a line.

    Token 0 is the unknown word, token 1 the line end, which is `eos`: a line is a sentence, as the
    n-gram toolkits read a text. The others follow by falling count in the training text, and equal counts
    by code point. Spaces are not kept: a decoded line has one between two words.

    Args:
      words: the known words, each once, without the two above.
      marks: names of special tokens, which follow the words.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, words: Iterable[str], marks: Iterable[str] = ()):
        self.words = (UNKNOWN, END, *words)
        self.marks = tuple(marks)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a word stands twice in this vocabulary")

    @property
    def vocabulary(self) -> int:
        return len(self.words) + len(self.marks)

    @property
    def special(self) -> Mapping[str, int]:
        return {"unk": 0, "eos": 1} | {name: len(self.words) + i for i, name in enumerate(self.marks)}

    def encode(self, text: str) -> np.ndarray:
        ids = self._ids
        return np.fromiter((ids.get(w, 0) for w in _TOKEN.findall(text)), np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        text = " ".join(self.words[t] for t in map(int, tokens) if t < len(self.words))
        return text.replace(" \n", "\n").replace("\n ", "\n")

    def token_bytes(self) -> list[bytes]:
        """A word with the space before it; the unknown word as it is written."""
        words = [word.encode() if word == END else b" " + word.encode() for word in self.words]
        return words + [b""] * len(self.marks)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": list(self.words[2:]), "marks": list(self.marks)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Words:
        return cls(data["words"], data["marks"])

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Words:
        if options.vocabulary is not None and options.vocabulary < 3:
            raise ConfigError(
                f"data.vocabulary={options.vocabulary} has no room for a word", "3 or more, or None for all"
            )
        counts = Counter(_TOKEN.findall(text))
        counts.pop(END, None)
        counts.pop(UNKNOWN, None)
        known = sorted(
            (w for w, n in counts.items() if n >= options.min_count), key=lambda w: (-counts[w], w)
        )
        marks = [m for m in options.marks if m != "eos"]
        return cls(known if options.vocabulary is None else known[: options.vocabulary - 2], marks)
