"""Split text into subwords with the `tokenizers` library: the base class of `bpe` and `hf`."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers._interface import Tokenizer
from genjax.errors import DataError

UNKNOWN_HINT = "use a tokenizer with an unknown token, or one of bytes"
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
    """Represent text by a tokenizer of the `tokenizers` library, without the tokens it adds (`cls`, `eos`).

    Args:
      data: the content of its tokenizer.json.
    """

    literal: ClassVar[bool]
    """True if "<eos>" in a text is text; False if it is read as the token of that name."""

    def __init__(self, data: Mapping[str, Any]):
        import tokenizers

        self.data = {**data, "truncation": None, "padding": None}
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(self.data))
        self._tokenizer.encode_special_tokens = self.literal

    @property
    def vocabulary(self) -> int:
        # Not the number of tokens: the ids of a file may have gaps.
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @functools.cached_property
    def special(self) -> Mapping[str, int]:
        return specials(self.data)

    def encode(self, text: str) -> np.ndarray:
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        encode = self._tokenizer.encode_batch if self._drops else self._tokenizer.encode_batch_fast
        try:
            found = encode(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"the tokenizer cannot read this text: {error}", UNKNOWN_HINT) from error
        if self._drops:
            for text, encoding in zip(texts, found, strict=True):
                self._check(text, encoding)
        return [np.array(e.ids, np.int32) for e in found]

    @functools.cached_property
    def _drops(self) -> bool:
        """Return True if the library drops characters that it does not know: BPE without an unknown token."""
        model = self.data.get("model") or {}
        unknown = model.get("unk_token") is not None or model.get("byte_fallback")
        return model.get("type", "BPE") == "BPE" and not unknown

    def _check(self, text: str, encoding: Any) -> None:
        """Raise the error of a text of which a character is in no token."""
        covered = {at for start, end in encoding.offsets for at in range(start, end)}
        normalize = self._tokenizer.normalizer
        for at, character in enumerate(text):
            if at in covered or character.isspace():
                continue
            if normalize is None or normalize.normalize_str(character).strip():
                raise DataError(f"the tokenizer has no token for {character!r}", UNKNOWN_HINT)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text without special tokens; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode([int(t) for t in tokens], skip_special_tokens=True)

    def token_bytes(self) -> list[bytes]:
        added = {t["id"]: t for t in self.data.get("added_tokens", ())}
        steps = _steps(self.data.get("decoder"))
        out: list[bytes] = []
        for i in range(self.vocabulary):
            token = self._tokenizer.id_to_token(i)
            if token is None or added.get(i, {}).get("special"):
                out.append(b"")
            elif i in added:
                out.append(token.encode())
            else:
                out.append(_piece(token, steps, self.data.get("decoder") or {}))
        return out

    @functools.cached_property
    def spaces(self) -> str | None:  # type: ignore[override]
        return _spaces(json.loads(self._tokenizer.to_str())["decoder"])

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": self.data}


def specials(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the special tokens of a tokenizer.json, by name.

    They are found among its added tokens, and the unknown token in the vocabulary of its model.
    """
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


def _steps(decoder: Mapping[str, Any] | None) -> set[str]:
    """Return the types of a decoder and of the decoders that it is composed of."""
    if not decoder:
        return set()
    return {decoder["type"]}.union(*(_steps(d) for d in decoder.get("decoders", ())))


def _spaces(decoder: Mapping[str, Any] | None) -> str | None:
    """Return `Tokenizer.spaces` of a decoder."""
    if decoder is None:
        return "start"  # a space between two tokens
    kind = decoder["type"]
    if kind == "Sequence":
        found = [_spaces(d) for d in decoder["decoders"]]
        if None in found:
            return None
        return "start" if "start" in found else "kept"
    if kind == "Metaspace":
        return "kept" if decoder["prepend_scheme"] == "never" else "start"
    if kind == "Strip":
        cut = (decoder["content"], decoder["start"], decoder["stop"])
        return {(" ", 1, 0): "start", (" ", 0, 0): "kept"}.get(cut)
    if kind == "Replace":
        return "kept" if (decoder["pattern"], decoder["content"]) == ({"String": "▁"}, " ") else None
    return "kept" if kind in ("ByteLevel", "ByteFallback", "Fuse") else None


def _piece(token: str, steps: set[str], decoder: Mapping[str, Any]) -> bytes:
    """Return the bytes that a token adds to a text, by the rules of its decoder."""
    if not steps:
        return b" " + token.encode()
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
    """Map the characters of byte-level vocabularies to the bytes that they represent.

    Printable Latin-1 characters represent themselves; U+0100 onwards represent the other 68 bytes in order.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in set(own)]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(other)}
