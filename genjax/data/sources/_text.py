"""Turn text into rows of tokens, for every source of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data import documents as docs
from genjax.data import tokenizers
from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays, Windows
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError
from genjax.spec import Element


def fit(config: Config, train: str, held: str = "") -> Tokenizer:
    """Return the tokenizer that the config names, fitted on the training text.

    Only `chars` reads the held-out text too, since it must represent all characters.
    """
    options = tokenizers.Options(config.vocabulary, config.min_count, config.sentinels, config.tokenizer_file)
    return tokenizers.fit(config.tokenizer, train, options, also=held)


def load(config: Config, train: Sequence[str], held: Sequence[str] | None = None, info: str = "") -> Loaded:
    """Return texts as rows of config.length + 1 tokens: windows of running text, or packed documents.

    Args:
      train: the documents of the source.
      held: the documents for evaluation; None to hold out the last part of `train`.
      info: the origin of the data, in words.

    Raises:
      DataError: a part is shorter than one row, or there are too few documents to hold one out.
    """
    if config.documents is not None:
        return _documents(config, train, held, info)
    if config.pack:
        raise DataError(
            f"{config.name!r}: data.pack=True packs documents, but data.documents is None",
            "set data.documents to the separator of documents, or to 'source'",
        )
    whole = docs.JOINT.join(train)
    pair = divide(whole, config.eval_fraction) if held is None else (whole, docs.JOINT.join(held))
    tokenizer = fit(config, *pair)
    streams = [tokenizer.encode(text) for text in pair]
    return finish(config, [windows(config, s, tokenizer.vocabulary) for s in streams], tokenizer, info)


def _documents(config: Config, train: Sequence[str], held: Sequence[str] | None, info: str) -> Loaded:
    """Return the documents of the texts as rows."""
    assert config.documents is not None
    parts = [docs.split(t, config.documents) for t in ([train] if held is None else [train, held])]
    if held is None:
        parts = list(docs.hold_out(parts[0], config.eval_fraction, config.name))
    end = docs.end_of(config.documents)
    tokenizer = fit(config, *("".join(d + end for d in p) for p in parts))
    coded = [docs.encode(tokenizer, p, end) for p in parts]
    count = " and ".join(f"{len(p):,}" for p in parts)
    return of_documents(config, coded, tokenizer, f"{info.rstrip('.')}; {count} documents")


def of_documents(
    config: Config, parts: Sequence[Sequence[np.ndarray]], tokenizer: Tokenizer, info: str
) -> Loaded:
    """Return the documents of both parts as rows: packed, or as running text with `segment`."""
    if config.pack:
        pad = tokenizer.special.get("pad", 0)
        dtype = dtype_of(tokenizer.vocabulary)
        return finish(config, [docs.Packed(p, config.length, pad, dtype) for p in parts], tokenizer, info)
    rows = []
    for p in parts:
        starts = np.cumsum([0, *(len(d) for d in p[:-1])])
        joined = np.concatenate(p) if p else np.zeros(0, np.int32)
        rows.append(windows(config, joined, tokenizer.vocabulary, starts))
    return finish(config, rows, tokenizer, info)


def windows(config: Config, tokens: np.ndarray, levels: int, starts: np.ndarray | None = None) -> Windows:
    """Return running text as rows, stored in a small type."""
    return Windows(tokens.astype(dtype_of(levels)), config.length, starts)


def dtype_of(levels: int) -> type:
    """Return a small type for integers in [0, levels)."""
    return np.uint8 if levels <= 256 else np.int32


def finish(config: Config, parts: Sequence[Arrays | Windows], tokenizer: Tokenizer, info: str) -> Loaded:
    """Return the result of a source of text.

    Raises:
      DataError: a part has no row.
    """
    elements = {"tokens": Element((config.length + 1,), "int32", tokenizer.vocabulary, "tokens", "target")}
    if config.documents is not None:
        elements["segment"] = Element((config.length + 1,), "int32")
    contents: list[np.ndarray] = []
    for name, rows in zip(("train", "eval"), parts, strict=True):
        contents += rows.contents()
        if not len(rows):
            seen = rows.contents()[0].size
            raise DataError(
                f"{config.name!r}: its {name} text has {seen} tokens, fewer than one row of "
                f"{config.length} + 1",
                "use a smaller data.length, or more text",
            )
    return Loaded(elements, parts[0], parts[1], digest(*contents), tokenizer=tokenizer, info=info)


def divide(text: str, fraction: float) -> tuple[str, str]:
    """Return (train, eval): the last `fraction` of the characters of a text is held out."""
    cut = len(text) - int(len(text) * fraction)
    return text[:cut], text[cut:]
