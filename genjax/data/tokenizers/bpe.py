"""Train a byte-level BPE on a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from genjax.data.tokenizers._interface import Options
from genjax.data.tokenizers._subwords import Subwords
from genjax.errors import ConfigError

VOCABULARY = 4096
"""The default number of tokens."""
NAMES = ("pad", "eos", "bos", "unk", "mask")
"""The special tokens in the order of their ids; the sentinels follow."""


class BPE(Subwords):
    """Represent text by byte-level BPE (Radford et al. 2019, sec. 2.2): every text, without loss.

    Ids: pad, eos, bos, unk (never used), mask, the sentinels, the 256 bytes, then the merges in order.
    """

    kind: ClassVar[str] = "bpe"
    literal: ClassVar[bool] = True


def fit(text: str, options: Options, also: str = "") -> BPE:
    """Train the tokenizer: the same text and options always give the same one.

    Raises:
      ConfigError: the vocabulary is too small for the bytes and the special tokens.
    """
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, trainers

    special = [f"<{n}>" for n in (*NAMES, *(f"sentinel_{i}" for i in range(options.sentinels)))]
    size = options.vocabulary or VOCABULARY
    least = 256 + len(special)
    if size < least:
        raise ConfigError(
            f"data.vocabulary={size} is too small for a byte-level BPE",
            f"set it to at least {least}: 256 bytes and {len(special)} special tokens",
        )
    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    model.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([text], trainer)
    return BPE(json.loads(model.to_str()))


def from_json(data: Mapping[str, Any]) -> BPE:
    """Return the tokenizer that `to_json` turned into `data`."""
    return BPE(data["tokenizer"])
