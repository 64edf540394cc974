"""Define the `data` section of a config with its defaults."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from genjax.config import Count, Name, Range, Rows, Seed, check
from genjax.plugins import Entry

TOKENIZERS = "genjax.data.tokenizers"
"""The package whose files are the built-in tokenizers."""
Order = Literal["shuffled", "lanes", "once"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Choose a dataset and how it is batched.

    Attributes:
      name: `digits`, `mnist5k`, `pydoc`, `ring`, `grid`, `tfds:NAME`, `folder:PATH`, `text:PATH`,
        `pairs:PATH`, `multi30k` (or `multi30k:en-fr`), `chorales` (or `chorales:voices`), `rolls:PATH`,
        `emoji`, `emoji_styles`, `mnist`, `usps`, `mnist_usps`, `stacked_mnist` or `zip:A,B`; or the dotted
        path of a module that defines a source.
      batch: rows of a training batch, over all devices and processes.
      eval_batch: rows of an evaluation batch.
      order: `shuffled` (exact epochs), `lanes` (contiguous text, as truncated backpropagation needs it) or
        `once` (one pass in order).
      length: tokens that are predicted in one row of text; a row holds length + 1.
      tokenizer: of text: `bytes` (256 tokens), `chars` (the characters of the text), `words` (separated by
        white space, with line ends as tokens), `bpe` (byte-level, trained on the training text), `hf` (read
        from a file), `run` (that of another run), or the dotted path of a module that defines a tokenizer.
      vocabulary: the number of tokens of a trained `bpe` (None: 4,096), or the greatest number of tokens of
        `words` (None: no limit).
      min_count: `words` that occur less often in the training text are unknown.
      sentinels: additional sentinel tokens of a trained `bpe`.
      tokenizer_file: a tokenizer.json, for `hf`; a run directory, for `run`.
      documents: the end of a document: a separator, such as "\\n\\n"; or `source` for the source's own
        documents (topics of pydoc, files of a folder, examples of TFDS). None for running text. With
        documents, a row has `segment` beside `tokens`, and the evaluation part begins with a whole document.
      pack: fill each row with as many whole documents as fit, and pad it; else rows are windows of running
        text.
      buckets: of pairs: ascending lengths. A batch holds rows of one bucket, cut to its length. Empty for
        rows of `length` tokens.
      transpose: train music in its own key and in those up to this many semitones above and below.
      per_quarter: frames of a quarter note in `rolls:`: MIDI files are read at so many (None: 4); rolls of
        other files have so many (None: 1), which sets the speed at which samples are heard.
      size: side in pixels to which images of a folder are cropped (centre square) and resized. None keeps
        their size, which must then be the same for all.
      eval_fraction: the fraction of a text, or of a folder or rolls without a test part, that is held out; of
        a text the last part.
      eval_split: the evaluation part. For `tfds:` a split, or several joined by `+` (None: `validation`,
        or else `test`). For `multi30k`, `chorales` and `rolls:`, `validation` (None) or `test`. For
        `pairs:` the word that replaces `train` in the file names, or the files themselves.
      binarise: make images black and white: by a "threshold", or by a "draw" of every pixel with the
        probability of its grey value, new at every presentation in training. None leaves them as they are.
      downsample: add `source`, the image at this fraction (1/2 or 1/4) of its size, as the condition that the
        image answers; other conditions become auxiliary. None leaves the rows as they are.
      feature: the image or text feature of a `tfds:` dataset, if it has several.
      limit: keep only the first rows of each split; None for all. Rows come in a fixed random order if
        their order has no meaning, so that the first ones are a fair sample.
      seed: of the order of the rows; never of the data.
      originals: a folder of raw files, one directory for each dataset, for machines without a network. If
        None, the environment variable GENJAX_ORIGINALS.
      cache: the folder of prepared data. If None, the environment variable GENJAX_DATA, or ~/.cache/genjax.

    Raises:
      ValueError: a value out of its range.
    """

    name: Name = "digits"
    batch: Rows = 128
    eval_batch: Rows = 512
    order: Order = "shuffled"
    length: Rows = 64
    tokenizer: Annotated[str, Entry(TOKENIZERS, "tokenizer")] = "bytes"
    vocabulary: Rows | None = None
    min_count: Count = 1
    sentinels: Annotated[int, Range(least=0, most=100_000)] = 0
    tokenizer_file: Name | None = None
    documents: str | None = None
    pack: bool = False
    buckets: tuple[Rows, ...] = ()
    transpose: Annotated[int, Range(least=0, most=127)] = 0
    per_quarter: Annotated[int, Range(least=1, most=480)] | None = None
    size: Annotated[int, Range(least=1, most=2**16)] | None = None
    eval_fraction: Annotated[float, Range(above=0, below=1)] = 0.1
    eval_split: Name | None = None
    binarise: Literal["threshold", "draw"] | None = None
    downsample: Literal[2, 4] | None = None
    feature: Name | None = None
    limit: Count | None = None
    seed: Seed = 0
    originals: Name | None = None
    cache: Name | None = None

    def __post_init__(self):
        check(self)
        if self.documents == "":
            raise ValueError("documents must be a separator that is not empty, or None")
        if list(self.buckets) != sorted({b for b in self.buckets if b > 0}):
            raise ValueError(f"buckets must be rising lengths, got {self.buckets}")
