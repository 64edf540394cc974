"""Use words between white space and line ends as tokens, as classical language models do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers._interface import Options, Tokenizer
from genjax.errors import ConfigError

UNKNOWN = "<unk>"
END = "\n"
_TOKEN = re.compile(r"\n|[^\s]+")


class Words(Tokenizer):
    """Represent text with one token per word (a run of characters without white space) and per line end.

    Token 0 is the unknown word. Token 1 is the line end, which is `eos`: a line is a sentence, as in n-gram
    toolkits. The other words follow in order of descending count in the training text, and by code point if
    counts are equal. Spaces are not kept: a decoded line has one between two words.

    Args:
      words: the known words, each once, without the two above.
      marks: names of special tokens, which follow the words.

    Raises:
      ValueError: a word occurs twice.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, words: Iterable[str], marks: Iterable[str] = ()):
        self.words = (UNKNOWN, END, *words)
        self.marks = tuple(marks)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a word occurs twice in this vocabulary")

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
        """Return each word with a space before it; the unknown word as "<unk>"."""
        words = [word.encode() if word == END else b" " + word.encode() for word in self.words]
        return words + [b""] * len(self.marks)

    @property
    def spaces(self) -> str:
        return "lines"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": list(self.words[2:]), "marks": list(self.marks)}


def fit(text: str, options: Options, also: str = "") -> Words:
    """Return the tokenizer of the most frequent words of the training text.

    Raises:
      ConfigError: the vocabulary is too small for a single word.
    """
    if options.vocabulary is not None and options.vocabulary < 3:
        raise ConfigError(
            f"data.vocabulary={options.vocabulary} leaves no room for a word",
            "set it to 3 or more, or to None for all words",
        )
    counts = Counter(_TOKEN.findall(text))
    counts.pop(END, None)
    counts.pop(UNKNOWN, None)
    known = sorted((w for w, n in counts.items() if n >= options.min_count), key=lambda w: (-counts[w], w))
    # The line end already is `eos`.
    marks = [m for m in options.marks if m != "eos"]
    return Words(known if options.vocabulary is None else known[: options.vocabulary - 2], marks)


def from_json(data: Mapping[str, Any]) -> Words:
    """Return the tokenizer that `to_json` turned into `data`."""
    return Words(data["words"], data["marks"])
