"""Find the bytes that each token adds to a text, also where that depends on the token before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from genjax.data.tokenizers._interface import Tokenizer
from genjax.errors import ConfigError


class Pieces(NamedTuple):
    """Hold the UTF-8 bytes that each token adds to a text.

    Attributes:
      within: after another token (`Tokenizer.token_bytes`).
      opening: at the beginning of a text and after one of `breaks`: without the space that separates words.
      breaks: tokens after which comes no such space, as the line end of `words`.
    """

    within: list[bytes]
    opening: list[bytes]
    breaks: frozenset[int]


def pieces(tokenizer: Tokenizer) -> Pieces:
    """Return the bytes of each token, from what the tokenizer decodes.

    Raises:
      ConfigError: the text of a token depends on its neighbours in another way.
    """
    within = tokenizer.token_bytes()
    spaced = [i for i, piece in enumerate(within) if piece.startswith(b" ")]
    bare = [i for i in spaced if not tokenizer.decode([i]).startswith(" ")]
    if not bare:
        return Pieces(within, within, frozenset())
    _check(tokenizer, within, bare[0])
    opening = list(within)
    for i in bare:
        opening[i] = within[i][1:]
    ends = [i for i, piece in enumerate(within) if piece.endswith(b"\n")]
    breaks = [i for i in ends if not _added(tokenizer, i, bare[0]).startswith(" ")]
    return Pieces(within, opening, frozenset(breaks))


def _added(tokenizer: Tokenizer, before: int, token: int) -> str:
    """Return the text that a token adds after another one."""
    return tokenizer.decode([before, token]).removeprefix(tokenizer.decode([before]))


def _check(tokenizer: Tokenizer, within: Sequence[bytes], before: int) -> None:
    """Refuse a tokenizer that joins tokens by other rules (WordPiece without spaces before punctuation)."""
    for i, piece in enumerate(within):
        expected = piece.decode("utf-8", "replace")
        if _added(tokenizer, before, i) != expected:
            raise ConfigError(
                f"a stop text: the text of token {i} ({expected!r}) depends on its neighbours",
                "give the tokens that end a sample: --sample.stop=TOKEN",
            )
