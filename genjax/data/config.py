"""The `data` section of a config: the only home of its defaults."""

from __future__ import annotations

import dataclasses
from typing import Literal

Order = Literal["shuffled", "lanes", "once"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Which data, and how it is batched.

    Attributes:
      name: `digits`, `mnist5k`, `pydoc`, `ring`, `grid`, `tfds:NAME`, `folder:PATH`, `text:PATH`,
        `pairs:PATH`, `multi30k` (or `multi30k:en-fr`), `chorales` (or `chorales:voices`) or `zip:A,B`.
      batch: rows of a training batch, over all devices and hosts.
      eval_batch: rows of an evaluation batch.
      order: `shuffled` (exact epochs), `lanes` (contiguous text: what truncated backpropagation needs)
        or `once` (one ordered pass).
      length: tokens that are predicted in one row of text; a row holds length + 1.
      tokenizer: of text: `bytes` (256 tokens), `chars` (the characters that the text has), `words` (between
        white space, and line ends), `bpe` (byte-level, trained on the training text) or `hf` (a file).
      vocabulary: tokens of a trained `bpe` (4,096 where it is None), or most words of `words` (None: all).
      min_count: `words` that the training text has fewer times are unknown.
      sentinels: sentinel tokens that a trained `bpe` has beside the others.
      tokenizer_file: a tokenizer.json, for `hf`.
      documents: what ends a document: a separator, such as "\\n\\n"; or `source` for what the source itself
        tells apart (topics of pydoc, files of a folder, examples of TFDS). None for running text. With
        documents a row has `segment` beside `tokens`, and the evaluation part begins with a whole document.
      pack: rows hold whole documents, as many as fit, padded; else rows are windows of running text.
      buckets: of pairs: lengths, rising. A batch holds rows of one bucket, cut to its length. Empty for rows
        of `length` tokens.
      transpose: music is trained on in its own key and in those up to so many semitones above and below.
      size: side in pixels to which a folder's images are cropped (centre square) and resized; None to
        keep them, which must then all have one size.
      eval_fraction: the last part of a text, or of a folder without its own test part, that is held out.
      eval_split: the part to evaluate with: of `tfds:` a split, or several joined by `+`
        (None: `validation`, or else `test`), of
        `multi30k` and `chorales` `validation` (None) or `test`, of `pairs:` the word that stands in the
        names of its files where the training files have `train`, or the files themselves.
      feature: of a `tfds:` dataset, the image or text feature to read, where several could be meant.
      limit: keep only the first rows of each split (of every kind alike: rows lie in a fixed random
        order where their order has no meaning); None for all.
      seed: of the order of the rows; never of the data.
      originals: a folder of raw files for machines without a network: one directory a dataset. The
        environment's GENJAX_ORIGINALS where it is None.
      cache: where prepared data is kept. The environment's GENJAX_DATA, or ~/.cache/genjax, where None.
    """

    name: str = "digits"
    batch: int = 128
    eval_batch: int = 512
    order: Order = "shuffled"
    length: int = 64
    tokenizer: Literal["bytes", "chars", "words", "bpe", "hf"] = "bytes"
    vocabulary: int | None = None
    min_count: int = 1
    sentinels: int = 0
    tokenizer_file: str | None = None
    documents: str | None = None
    pack: bool = False
    buckets: tuple[int, ...] = ()
    transpose: int = 0
    size: int | None = None
    eval_fraction: float = 0.1
    eval_split: str | None = None
    feature: str | None = None
    limit: int | None = None
    seed: int = 0
    originals: str | None = None
    cache: str | None = None

    def __post_init__(self):
        for field in ("batch", "eval_batch", "length", "size", "limit", "vocabulary", "min_count"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} must be at least 1, got {value}")
        if not 0 < self.eval_fraction < 1:
            raise ValueError(f"eval_fraction must lie between 0 and 1, got {self.eval_fraction}")
        for field in ("sentinels", "transpose"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must not be negative, got {getattr(self, field)}")
        if self.documents == "":
            raise ValueError("documents must be a separator that is not empty, or None")
        if list(self.buckets) != sorted({b for b in self.buckets if b > 0}):
            raise ValueError(f"buckets must be rising lengths, got {self.buckets}")
