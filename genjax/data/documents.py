"""Divide texts into documents, mark their ends, and pack whole documents into rows."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

import numpy as np

from genjax.data.rows import Arrays, Columns
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError

SOURCE = "source"
"""The value of data.documents for the documents of the source itself."""
JOINT = "\n"
"""Separates the documents of a source if they are read as one text."""


def split(texts: Sequence[str], documents: str) -> list[str]:
    """Return the documents of a source's texts, without separators; empty ones are left out.

    A line feed in the separator also matches the line end CR LF.

    Args:
      documents: the separator, or SOURCE if every text is one document.
    """
    parts = texts if documents == SOURCE else _separated(JOINT.join(texts), documents)
    return [p for p in parts if p]


def _separated(text: str, separator: str) -> list[str]:
    if "\r\n" not in text:
        return text.split(separator)
    return re.split(re.escape(separator).replace("\\\n", "\\r?\\n"), text)


def end_of(documents: str) -> str:
    """Return the text that ends a document if the tokenizer has no token for its end."""
    return JOINT if documents == SOURCE else documents


def hold_out(documents: Sequence[str], fraction: float, name: str) -> tuple[list[str], list[str]]:
    """Return (train, eval). The last documents are held out: about `fraction` of the characters.

    Raises:
      DataError: there are fewer than two documents.
    """
    if len(documents) < 2:
        raise DataError(
            f"{name!r} has {len(documents)} document, and one must be held out",
            "set data.documents to another separator, or to None for running text",
        )
    ends = np.cumsum([len(d) for d in documents])
    cut = 1 + int(np.abs(ends[:-1] - ends[-1] * (1 - fraction)).argmin())
    return list(documents[:cut]), list(documents[cut:])


def marks(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens (none or one each) before and after every document: bos or cls, eos or sep.

    Tokens that also occur in a text (the line end of `words`) are not marks.
    """
    special = tokenizer.special
    pieces = tokenizer.token_bytes() if special else []

    def first(*names: str) -> list[int]:
        return [special[n] for n in names if n in special and not pieces[special[n]]][:1]

    return first("bos", "cls"), first("eos", "sep")


def encode(tokenizer: Tokenizer, documents: Sequence[str], end: str) -> list[np.ndarray]:
    """Return the tokens of each document with its marks.

    Args:
      end: text that is appended to each document if the tokenizer has no token for its end.
    """
    before, after = (np.array(m, np.int32) for m in marks(tokenizer))
    texts = documents if len(after) else [d + end for d in documents]
    return [np.concatenate([before, t, after]) for t in tokenizer.encode_all(texts)]


def pieces(document: np.ndarray, length: int) -> list[np.ndarray]:
    """Cut a document into pieces of at most length + 1 tokens.

    Neighbouring pieces share one token, so that every token but the first of the document is predicted once.
    A document of fewer than two tokens has no piece.
    """
    return [document[at : at + length + 1] for at in range(0, len(document) - 1, length)]


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into bins by best-fit decreasing (Johnson 1974): return the items of each bin.

    An item goes to the bin in which it leaves the least space; among equals, to the bin that was opened or
    filled last. The items of a bin are ascending, and so are the first items of the bins. O(n log n) and
    deterministic.

    Args:
      sizes: of the items, each at most `capacity`.
    """
    bins: list[list[int]] = []
    open_: dict[int, list[int]] = {}  # space left -> the bins that have this space
    spaces: list[int] = []  # the keys of open_, ascending
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect.bisect_left(spaces, sizes[item])
        if at == len(spaces):
            left = capacity
            number = len(bins)
            bins.append([])
        else:
            left = spaces[at]
            number = open_[left].pop()
            if not open_[left]:
                del open_[left], spaces[at]
        bins[number].append(item)
        if left := left - sizes[item]:
            if left not in open_:
                bisect.insort(spaces, left)
            open_.setdefault(left, []).append(number)
    return sorted(sorted(b) for b in bins)


class Packed(Arrays):
    """Pack whole documents into rows of length + 1 slots.

    `tokens` is padded with `pad`. `segment` is 0 on padding; elsewhere it numbers the pieces from 1 through
    all rows. Two rows never share a number, so that no state is carried from one row to the next.

    Args:
      documents: the tokens of each; a document longer than a row is cut into `pieces`.
      length: slots of a row, less one.
      pad: the token on padding.
      dtype: of the stored tokens.
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
                tokens[r, here] = parts[item]
                segment[r, here] = n
        super().__init__({"tokens": tokens, "segment": segment})
        counts = np.array([len(items) for items in rows], np.int32)
        self._before = np.cumsum(counts, dtype=np.int32) - counts

    def __call__(self, indices: np.ndarray) -> Columns:
        tokens, number = (column[indices].astype(np.int32) for column in self.columns.values())
        # Stored numbers restart in each row, to fit in a byte; add the pieces of all rows before it.
        segment = np.where(number > 0, number + self._before[indices][:, None], 0)
        return {"tokens": tokens, "segment": segment}
