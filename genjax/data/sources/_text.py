"""Text as windows of tokens: what every source of text ends in."""

from __future__ import annotations

import numpy as np

from genjax.core import Element
from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Windows
from genjax.data.tokenizers import fit
from genjax.errors import DataError


def windows(config: Config, train: str, held: str, info: str = "") -> Loaded:
    """Two texts as rows of config.length + 1 tokens. `chars` knows the characters of both texts.

    Raises:
      DataError: a text is shorter than one row.
    """
    tokenizer = fit(config.tokenizer, train + held)
    dtype = np.uint8 if tokenizer.vocabulary <= 256 else np.int32
    parts = []
    for name, text in (("train", train), ("eval", held)):
        tokens = tokenizer.encode(text).astype(dtype)
        if len(tokens) <= config.length:
            raise DataError(
                f"{config.name!r}: its {name} text has {len(tokens)} tokens, fewer than one row of "
                f"{config.length} + 1",
                "a smaller data.length, or more text",
            )
        parts.append(Windows(tokens, config.length))
    elements = {"tokens": Element((config.length + 1,), "int32", tokenizer.vocabulary)}
    content = digest(*(p.tokens for p in parts))
    return Loaded(elements, parts[0], parts[1], content, tokenizer=tokenizer, info=info)


def divide(text: str, fraction: float) -> tuple[str, str]:
    """(train, eval): the last part of a text's characters is held out."""
    cut = len(text) - int(len(text) * fraction)
    return text[:cut], text[cut:]
