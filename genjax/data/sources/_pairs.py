"""Turn text-to-text pairs into rows, for every source of pairs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genjax.data import tokenizers
from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.pairs import Pairs, Ragged
from genjax.data.sources import _files
from genjax.data.sources._text import dtype_of
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError
from genjax.spec import Element


class Texts(NamedTuple):
    """Hold aligned texts: source[i] belongs to target[i]."""

    source: Sequence[str]
    target: Sequence[str]


def lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, which may be compressed (.gz). Only a line feed ends a line.

    Raises:
      DataError: the file cannot be read or decompressed, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", "download the file again") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}",
            "convert it, for example with `iconv -f ENCODING -t UTF-8`",
        ) from error
    return _files.lines(text)


def parallel(source: Path, target: Path) -> Texts:
    """Return the pairs of two files, line by line.

    Raises:
      DataError: the files differ in their number of lines.
    """
    pair = Texts(lines(source), lines(target))
    if len(pair.source) != len(pair.target):
        raise DataError(
            f"{source} has {len(pair.source):,} lines, and {target} has {len(pair.target):,}",
            "line i of one file must belong to line i of the other",
        )
    return pair


def load(config: Config, train: Texts, held: Texts, info: str) -> Loaded:
    """Return pairs as rows of at most max(config.buckets) tokens per side, or config.length without buckets.

    One tokenizer serves both sides and is fitted on the training pairs. Each side ends in eos, which its
    length includes. Longer training pairs are left out; longer evaluation pairs are cut and keep their eos.
    """
    length = max(config.buckets, default=config.length)
    tokenizer = _fit(config, train, held)
    notes = [info]
    parts = []
    for name, texts in (("train", train), ("eval", held)):
        source, target = (_encode(tokenizer, side) for side in texts)
        fits = [max(len(s), len(t)) <= length for s, t in zip(source, target, strict=True)]
        if long := len(fits) - sum(fits):
            what = "left out" if name == "train" else "cut"
            notes.append(f"{long:,} of {len(fits):,} {name} pairs longer than {length} tokens {what}")
        if name == "train":
            source = [x for x, ok in zip(source, fits, strict=True) if ok]
            target = [x for x, ok in zip(target, fits, strict=True) if ok]
        parts.append(_rows(config, source, target, length, tokenizer))
    content = digest(*(x for p in parts for r in (p.source, p.target) for x in (r.flat, r.lengths)))
    elements = _elements(length, tokenizer.vocabulary)
    info = "; ".join(notes)
    return Loaded(elements, parts[0], parts[1], content, tokenizer=tokenizer, info=info, paired=True)


def _fit(config: Config, train: Texts, held: Texts) -> Tokenizer:
    """Return the tokenizer of both sides, with pad and eos."""
    options = tokenizers.Options(
        config.vocabulary,
        config.min_count,
        config.sentinels,
        config.tokenizer_file,
        marks=("pad", "eos"),
    )
    text = "\n".join([*train.source, *train.target])
    return tokenizers.fit(config.tokenizer, text, options, also="\n".join([*held.source, *held.target]))


def _elements(length: int, vocabulary: int) -> dict[str, Element]:
    side = Element((length,), "int32", vocabulary, "tokens")
    size = Element((), "int32")
    return {
        "source": side.replace(role="condition"),
        "source_length": size.replace(role="condition"),
        "target": side.replace(role="target"),
        "target_length": size.replace(role="target"),
    }


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the tokens of each text, followed by eos."""
    eos = np.array([tokenizer.special["eos"]], np.int32)
    return [np.concatenate([t, eos]) for t in tokenizer.encode_all(texts)]


def _rows(
    config: Config, source: list[np.ndarray], target: list[np.ndarray], length: int, tokenizer: Tokenizer
) -> Pairs:
    """Return encoded pairs as rows; sequences longer than `length` lose the tokens before their eos."""
    dtype = dtype_of(tokenizer.vocabulary)
    sides = [
        Ragged([x if len(x) <= length else np.r_[x[: length - 1], x[-1:]] for x in side], dtype)
        for side in (source, target)
    ]
    return Pairs(sides[0], sides[1], length, tokenizer.special["pad"], config.buckets)
