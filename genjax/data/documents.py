"""Texts as documents that never see each other: found, marked, and packed whole into rows."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from genjax.data.rows import Arrays, Columns
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError

SOURCE = "source"
"""data.documents: what the source itself tells apart."""
JOINT = "\n"
"""Between a source's own documents, where they are read as one text."""


def split(texts: Sequence[str], documents: str) -> list[str]:
    """The documents of a source's texts, without what ends them; empty ones are left out.

    Args:
      documents: the separator, or SOURCE: then every text is one.
    """
    parts = texts if documents == SOURCE else JOINT.join(texts).split(documents)
    return [p for p in parts if p]


def end_of(documents: str) -> str:
    """What is written behind a document where no token of the tokenizer's stands for its end."""
    return JOINT if documents == SOURCE else documents


def hold_out(documents: Sequence[str], fraction: float, name: str) -> tuple[list[str], list[str]]:
    """(train, eval): the last documents, as many as come nearest to this fraction of the characters.

    Raises:
      DataError: there are fewer than two.
    """
    if len(documents) < 2:
        raise DataError(
            f"{name!r} has {len(documents)} document, and one must be held out",
            "another separator in data.documents, or None for running text",
        )
    ends = np.cumsum([len(d) for d in documents])
    cut = 1 + int(np.abs(ends[:-1] - ends[-1] * (1 - fraction)).argmin())
    return list(documents[:cut]), list(documents[cut:])


def marks(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens (none, or one each) before and behind every document: bos or cls, eos or sep.

    Tokens that are written in a text too (the line end of `words`) mark nothing.
    """
    special = tokenizer.special
    pieces = tokenizer.token_bytes() if special else []

    def first(*names: str) -> list[int]:
        return [special[n] for n in names if n in special and not pieces[special[n]]][:1]

    return first("bos", "cls"), first("eos", "sep")


def encode(tokenizer: Tokenizer, documents: Sequence[str], end: str) -> list[np.ndarray]:
    """Each document's tokens with its marks; `end` is written where the tokenizer has no mark for it."""
    before, behind = (np.array(m, np.int32) for m in marks(tokenizer))
    texts = documents if len(behind) else [d + end for d in documents]
    return [np.concatenate([before, t, behind]) for t in tokenizer.encode_all(texts)]


def pieces(document: np.ndarray, length: int) -> list[np.ndarray]:
    """A document in pieces of at most length + 1 tokens. Neighbours share one token, so that every token
    but the document's first is predicted once; nothing is left of a document of less than two tokens."""
    return [document[at : at + length + 1] for at in range(0, len(document) - 1, length)]


def best_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Items of these sizes (each at most `room`) in bins of that room: best fit, the largest first.

    An item goes where it leaves the least room; among equals, to the bin that was opened or filled last.
    Items of a bin are in rising order, and so are the bins' first items. O(n log n) and deterministic.
    """
    bins: list[list[int]] = []
    open_: dict[int, list[int]] = {}  # room that is left -> bins, of those that have some
    rooms: list[int] = []  # the keys of open_, rising
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect.bisect_left(rooms, sizes[item])
        if at == len(rooms):
            left, number = room, len(bins)
            bins.append([])
        else:
            left = rooms[at]
            number = open_[left].pop()
            if not open_[left]:
                del open_[left], rooms[at]
        bins[number].append(item)
        if left := left - sizes[item]:
            if left not in open_:
                bisect.insort(rooms, left)
            open_.setdefault(left, []).append(number)
    return sorted(sorted(b) for b in bins)


class Packed(Arrays):
    """Rows of length + 1 slots, each with whole documents one behind the other.

    `tokens` is padded with `pad`; `segment` is 0 on padding and else numbers the pieces, from 1 on through
    all rows: two rows never share a number, so that no state is carried from one into the other.

    Args:
      documents: each its tokens; a longer one than a row is cut into `pieces`.
      length: slots of a row, less one.
      pad: what stands on padding.
      dtype: which the tokens are kept in.
    """

    def __init__(self, documents: Sequence[np.ndarray], length: int, pad: int = 0, dtype: type = np.int32):
        parts = [p for d in documents for p in pieces(d, length)]
        rows = best_fit([len(p) for p in parts], length + 1)
        most = max((len(r) for r in rows), default=1)
        tokens = np.full((len(rows), length + 1), pad, dtype)
        segment = np.zeros(tokens.shape, np.uint8 if most < 256 else np.int32)
        for r, items in enumerate(rows):
            at = 0
            for n, item in enumerate(items, 1):
                here = slice(at, at := at + len(parts[item]))
                tokens[r, here], segment[r, here] = parts[item], n
        super().__init__({"tokens": tokens, "segment": segment})
        counts = np.array([len(items) for items in rows], np.int32)
        self._before = np.cumsum(counts, dtype=np.int32) - counts

    def __call__(self, indices: np.ndarray) -> Columns:
        tokens, number = (self.columns[k][indices].astype(np.int32) for k in ("tokens", "segment"))
        segment = np.where(number > 0, number + self._before[indices][:, None], 0)
        return {"tokens": tokens, "segment": segment}
