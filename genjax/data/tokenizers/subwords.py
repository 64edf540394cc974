"""Subwords, through the `tokenizers` library: a byte-level BPE trained here, or any tokenizer.json."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import ConfigError, DataError

VOCABULARY = 4096
"""Of a trained BPE, where a config does not say."""
NAMES = ("pad", "eos", "bos", "unk", "mask")
"""The special tokens of a trained BPE, in the order of their ids; the sentinels follow."""
_MEANINGS = {
    "</s>": ("eos",),
    "<s>": ("bos",),
    "<|endoftext|>": ("eos", "bos"),
    "<|begin_of_text|>": ("bos",),
    "<|startoftext|>": ("bos",),
    "<|end_of_text|>": ("eos",),
    "<|padding|>": ("pad",),
}
_NAMED = re.compile(r"[<\[]\|?(pad|eos|bos|unk|mask|cls|sep)\|?[>\]]", re.IGNORECASE)
_SENTINEL = re.compile(r"<(?:extra_id|sentinel)_(\d+)>")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Subwords(Tokenizer):
    """A tokenizer of the `tokenizers` library. It adds no tokens of its own (`cls`, `eos`) to a text.

    Args:
      data: what its tokenizer.json holds.
    """

    literal: ClassVar[bool]
    """True where "<eos>" in a text is text; False where it is read as the token of that name."""

    def __init__(self, data: Mapping[str, Any]):
        import tokenizers

        self.data = {**data, "truncation": None, "padding": None}
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(self.data))
        self._tokenizer.encode_special_tokens = self.literal

    @property
    def vocabulary(self) -> int:
        # Not the number of tokens: the ids of a file may have holes.
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @functools.cached_property
    def special(self) -> Mapping[str, int]:
        return specials(self.data)

    def encode(self, text: str) -> np.ndarray:
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(e.ids, np.int32) for e in found]

    def decode(self, tokens: Iterable[int]) -> str:
        """Special tokens are left out; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode([int(t) for t in tokens], skip_special_tokens=True)

    def token_bytes(self) -> list[bytes]:
        silent = {t["id"]: t for t in self.data.get("added_tokens", ())}
        steps = _kinds(self.data.get("decoder"))
        out = []
        for i in range(self.vocabulary):
            token = self._tokenizer.id_to_token(i)
            if token is None or silent.get(i, {}).get("special"):
                out.append(b"")
            elif i in silent:
                out.append(token.encode())
            else:
                out.append(_piece(token, steps, self.data.get("decoder") or {}))
        return out

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": self.data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Subwords:
        return cls(data["tokenizer"])


class BPE(Subwords):
    """Byte-level BPE (Radford et al. 2019, sec. 2.2) trained on a text: no text is lost, none is unknown.

    Ids: pad, eos, bos, unk (never written), mask, the sentinels, the 256 bytes, then the merges in order.
    Training is deterministic: the same text and options give the same tokenizer.
    """

    kind: ClassVar[str] = "bpe"
    literal: ClassVar[bool] = True

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> BPE:
        from tokenizers import Tokenizer as Model
        from tokenizers import decoders, models, pre_tokenizers, trainers

        special = [f"<{n}>" for n in (*NAMES, *(f"sentinel_{i}" for i in range(options.sentinels)))]
        size, least = options.vocabulary or VOCABULARY, 256 + len(special)
        if size < least:
            raise ConfigError(
                f"data.vocabulary={size} is too small for a byte-level BPE",
                f"at least {least}: 256 bytes and {len(special)} special tokens",
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
        return cls(json.loads(model.to_str()))


class File(Subwords):
    """Any tokenizer.json, as model hubs keep them. Names of its special tokens in a text are those tokens."""

    kind: ClassVar[str] = "hf"
    literal: ClassVar[bool] = False

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> File:
        """The tokenizer in options.file.

        Raises:
          ConfigError: no file is named, or its tokenizer lacks a special token that is needed.
          DataError: see `read`.
        """
        if options.file is None:
            raise ConfigError(
                "data.tokenizer='hf' needs a file", "set data.tokenizer_file to the path of a tokenizer.json"
            )
        found = cls.read(options.file)
        for name in options.marks:
            if name not in found.special:
                raise ConfigError(
                    f"the tokenizer {options.file} has no {name} token (but {', '.join(found.special)})",
                    f"add a special token <{name}> to its added_tokens, or use data.tokenizer='bpe'",
                )
        return found

    @classmethod
    def read(cls, path: str | Path) -> File:
        """The tokenizer in a file, or in the tokenizer.json of a folder.

        Raises:
          DataError: it is missing, is not JSON, or is not a tokenizer.
        """
        path = Path(path).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        mend = "the tokenizer.json that is published beside a model's weights"
        try:
            data = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise DataError(f"tokenizer file {path} cannot be read: {error.strerror}", mend) from error
        except ValueError as error:
            raise DataError(f"tokenizer file {path} is not JSON: {error}", mend) from error
        if not isinstance(data, dict):
            raise DataError(
                f"tokenizer file {path} is not a tokenizer: it holds a {type(data).__name__}", mend
            )
        try:
            return cls(data)
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"tokenizer file {path} is not a tokenizer: {error}", mend) from error


def specials(data: Mapping[str, Any]) -> dict[str, int]:
    """The ids of the special tokens among a tokenizer.json's added tokens and its model's own, by name."""
    model = data.get("model") or {}
    tokens = {t["content"]: t["id"] for t in data.get("added_tokens", ())}
    unknown = model.get("unk_token")
    if unknown is not None and isinstance(model.get("vocab"), Mapping) and unknown in model["vocab"]:
        tokens.setdefault(unknown, model["vocab"][unknown])
    found: dict[str, int] = {}
    for text, i in sorted(tokens.items(), key=lambda item: item[1]):
        names = _MEANINGS.get(text, ())
        if match := _NAMED.fullmatch(text):
            names = (match[1].lower(),)
        elif match := _SENTINEL.fullmatch(text):
            names = (f"sentinel_{int(match[1])}",)
        elif text == unknown:
            names = ("unk",)
        for name in names:
            found.setdefault(name, i)
    return found


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    """The names of a decoder's steps."""
    if not decoder:
        return set()
    return {decoder["type"]}.union(*(_kinds(d) for d in decoder.get("decoders", ())))


def _piece(token: str, steps: set[str], decoder: Mapping[str, Any]) -> bytes:
    """What a token adds to a text, in the way of its decoder."""
    if "ByteLevel" in steps:
        table = _byte_level()
        return bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()
    if "WordPiece" in steps:
        prefix = decoder.get("prefix", "##")
        return token.removeprefix(prefix).encode() if token.startswith(prefix) else b" " + token.encode()
    if (match := _BYTE.fullmatch(token)) and "ByteFallback" in steps:
        return bytes([int(match[1], 16)])
    if "Metaspace" in steps or "Replace" in steps:
        return token.replace("▁", " ").encode()
    return token.encode()


@functools.cache
def _byte_level() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies, and back.

    Printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 onwards in order.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in set(own)]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(other)}
