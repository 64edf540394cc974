"""Constraints hold for the decoded text of every tokenizer, or are refused; unknown text is an error."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import ngram_decoder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from genjax.data import tokenizers
from genjax.data.tokenizers import Options, hf
from genjax.errors import ConfigError, DataError
from genjax.sampling.autoregressive import generate
from genjax.workflows import text

VOCABULARY = ["<unk>", "▁red", "▁green", "▁", "red", "green", "▁▁", ",", "▁,", "-", "▁a▁b", "\n", "a", "b"]


def from_file(path: Path, model: Any, decoder: Any) -> hf.File:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder is not None:
        made.decoder = decoder
    made.save(str(path / "tokenizer.json"))
    return hf.read(path)


def of_words(path: Path, decoder: Any) -> hf.File:
    vocabulary = {word: i for i, word in enumerate(VOCABULARY)}
    return from_file(path, models.WordLevel(vocabulary, unk_token="<unk>"), decoder)


def llama() -> Any:
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return decoders.Sequence(steps)


def drawn(tokenizer: Any, pattern: str) -> list[str]:
    """The texts of samples of a random model; what follows the end of a row is left out."""
    dataset: Any = SimpleNamespace(tokenizer=tokenizer, name="it")
    limits = text.constraint(dataset, regex=pattern)
    V = tokenizer.vocabulary
    keys = jax.random.split(jax.random.key(0), 16)
    out = generate(
        *ngram_decoder(V), keys, jnp.zeros((16, 1), jnp.int32), length=9, constraint=limits, temperature=9.0
    )
    return [tokenizer.decode(row[:n]) for row, n in zip(np.asarray(out.tokens), out.lengths, strict=True)]


DECODERS = {
    "metaspace": decoders.Metaspace,
    "first": lambda: decoders.Metaspace(prepend_scheme="first"),
    "never": lambda: decoders.Metaspace(prepend_scheme="never"),
    "llama": llama,
    "none": lambda: None,
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("pattern", ["red|green", "(red|green)( (red|,))*", "a b|a  b| red|red"])
def test_decoded_samples_match(tmp_path: Path, name: str, pattern: str):
    tokenizer = of_words(tmp_path, DECODERS[name]())
    texts = drawn(tokenizer, pattern)
    assert all(re.fullmatch(pattern, t) for t in texts), texts
    assert len(set(texts)) > 1 or name == "none"


@pytest.mark.parametrize("pattern", ["red|green", r"red( green)*(\nred)?", r"(green red\n){1,2}"])
def test_samples_of_words_match(pattern: str):
    tokenizer = tokenizers.fit("words", "red green red\nblue red", Options())
    texts = drawn(tokenizer, pattern)
    assert all(re.fullmatch(pattern, t) for t in texts), texts
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    "decoder", [decoders.WordPiece(), decoders.BPEDecoder()], ids=["wordpiece", "suffix"]
)
def test_tokens_that_depend_on_their_neighbours_are_refused(tmp_path: Path, decoder: Any):
    tokenizer = of_words(tmp_path, decoder)
    with pytest.raises(ConfigError, match="depends on their neighbours"):
        drawn(tokenizer, "red")


PAIR = {"a": 0, "b": 1, "ab": 2}
WITHOUT_UNKNOWN = {
    "bpe": lambda: models.BPE(PAIR, [("a", "b")]),
    "words": lambda: models.WordLevel(PAIR),
    "wordpiece": lambda: models.WordPiece({"a": 0, "##b": 1, "b": 2}),
    "unigram": lambda: models.Unigram([("a", -1.0), ("b", -2.0)]),
}


@pytest.mark.parametrize("name", WITHOUT_UNKNOWN)
def test_text_without_a_token_is_an_error(tmp_path: Path, name: str):
    tokenizer = from_file(tmp_path, WITHOUT_UNKNOWN[name](), decoders.Fuse())
    assert len(tokenizer.encode("ab a")) > 1
    with pytest.raises(DataError, match="tokenizer"):
        tokenizer.encode("ab aéb")


def test_what_the_tokenizer_normalizes_away_is_no_error(tmp_path: Path):
    from tokenizers import normalizers

    raw = Tokenizer(models.BPE(PAIR, [("a", "b")]))
    raw.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    raw.save(str(tmp_path / "tokenizer.json"))
    assert hf.read(tmp_path).encode("áb").tolist() == [2]


def test_a_schema_file_may_begin_with_a_mark(tmp_path: Path):
    path = tmp_path / "schema.json"
    path.write_text('{"enum": ["a"]}', "utf-8-sig")
    dataset: Any = SimpleNamespace(tokenizer=tokenizers.fit("bytes", "a"), name="it")
    limits = text.constraint(dataset, schema=str(path))
    assert limits is not None
    assert limits.fewest == len('"a"')
