"""What every tokenizer is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """How a tokenizer is fitted; each kind reads what concerns it.

    Attributes:
      vocabulary: tokens at most, special ones included; None for the kind's own choice.
      min_count: words that the training text has fewer times are unknown.
      sentinels: how many sentinel tokens there are beside the others (span corruption).
      file: the tokenizer.json to read.
      marks: special tokens that must be there, such as pad and eos. `bytes`, `chars` and `words`, which have
        none of their own beside the line end of `words`, get them as their last tokens.
    """

    vocabulary: int | None = None
    min_count: int = 1
    sentinels: int = 0
    file: str | None = None
    marks: tuple[str, ...] = ()


class Tokenizer(Protocol):
    """Text to integers in [0, vocabulary) and back.

    Attributes:
      kind: its name in a config, and in to_json.
      vocabulary: V, how many tokens there are.
      special: the tokens that mean something beside their text, by name: pad, eos, bos, unk, mask, cls,
        sep, and sentinel_0, sentinel_1 ... Empty where there are none.
    """

    kind: ClassVar[str]

    @property
    def vocabulary(self) -> int: ...

    @property
    def special(self) -> Mapping[str, int]:
        return {}

    def encode(self, text: str) -> np.ndarray:
        """int32 tokens. DataError where the text cannot be written in this vocabulary."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Each text's tokens."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str: ...

    def token_bytes(self) -> list[bytes]:
        """What each token adds to the text, as UTF-8; b"" for one that adds nothing (pad, eos ...).

        Exact for bytes, chars and every byte-level tokenizer: the pieces of a sequence join to its text.
        Where a token's text depends on its neighbours (words, WordPiece) it is what stands inside of a line.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain data with "kind", from which `from_json` makes an equal tokenizer: nothing else is needed."""
        ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tokenizer: ...

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Tokenizer:
        """The tokenizer for this text.

        Args:
          text: the training text.
          also: what else must be written with it (the evaluation text): only `chars` looks at it.
        """
        ...
