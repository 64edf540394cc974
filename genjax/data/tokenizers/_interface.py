"""Define the interface of a tokenizer, and of the module that makes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """Set the options for fitting a tokenizer; each kind reads those that apply to it.

    Attributes:
      vocabulary: the greatest number of tokens, special ones included; None for the default of the kind.
      min_count: words that occur less often in the training text are unknown.
      sentinels: additional sentinel tokens, for span corruption.
      file: the tokenizer.json to read.
      marks: special tokens that must exist, such as pad and eos. `bytes`, `chars` and `words` have none of
        their own (except the line end of `words`) and append them to their tokens.
    """

    vocabulary: int | None = None
    min_count: int = 1
    sentinels: int = 0
    file: str | None = None
    marks: tuple[str, ...] = ()


class Tokenizer(Protocol):
    """Convert text to integers in [0, vocabulary) and back.

    Attributes:
      kind: the name of its module, in a config and in `to_json`: a file of this package or a dotted name.
      vocabulary: V, the number of tokens.
      special: ids of the tokens with a meaning beside their text, by name: pad, eos, bos, unk, mask, cls,
        sep, sentinel_0, sentinel_1 ... Empty if there are none.
    """

    kind: ClassVar[str]

    @property
    def vocabulary(self) -> int: ...

    @property
    def special(self) -> Mapping[str, int]:
        return {}

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of a text, int32.

        Raises:
          DataError: the vocabulary cannot represent the text.
        """
        ...

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of a sequence of tokens."""
        ...

    def token_bytes(self) -> list[bytes]:
        """Return the UTF-8 bytes that each token adds to the text; b"" for pad, eos and others without text.

        Exact for bytes, chars and every byte-level tokenizer: the bytes of a sequence join to its text. If
        the text of a token depends on its neighbours, these are its bytes within a line: see `spaces`.
        """
        ...

    @property
    def spaces(self) -> str | None:
        """Name how the text differs from the joined bytes of its tokens.

        "kept": not at all. "start": a space at its beginning is left out. "lines": so is one after a line
        end. None: in other ways.
        """
        return "kept"

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with "kind", that is sufficient to restore an equal tokenizer."""
        ...


class Module(Protocol):
    """List the names that the module of a tokenizer defines."""

    def fit(self, text: str, options: Options, also: str) -> Tokenizer:
        """Return the tokenizer for a text.

        Args:
          text: the training text.
          options: see Options.
          also: other text that must be representable (the evaluation text). Only `chars` reads it.
        """
        ...

    def from_json(self, data: Mapping[str, Any]) -> Tokenizer:
        """Return the tokenizer that `Tokenizer.to_json` turned into `data`."""
        ...
