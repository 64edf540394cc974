"""Stops are found in the text, wherever the boundaries of tokens are; properties over random vocabularies."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest
from decoders import PROMPTS, gpt_decoder
from hypothesis import example, given
from hypothesis import strategies as st

from genjax.data.tokenizers import Options, Pieces, fit
from genjax.data.tokenizers import pieces as pieces_of
from genjax.data.tokenizers.words import Words
from genjax.errors import ConfigError
from genjax.sampling import speculative, stops
from genjax.sampling.autoregressive import generate, stream
from genjax.sampling.beam import beam_search
from genjax.sampling.stops import StopText
from genjax.workflows import text

SMALL = st.text("abé\n", min_size=1, max_size=4)
PIECES = st.lists(
    st.lists(st.sampled_from([*"abé\n".encode()]), max_size=4).map(bytes), min_size=1, max_size=6
)


def first_end(pieces: list[bytes], tokens: list[int], wanted: bytes) -> int | None:
    """Return the number of tokens whose bytes are the first to contain `wanted`; None if none do."""
    for n in range(1, len(tokens) + 1):
        if wanted in b"".join(pieces[t] for t in tokens[:n]):
            return n
    return None


@given(SMALL, PIECES, st.lists(st.integers(0, 5), max_size=12))
@example("aab", [b"a", b"b"], [0, 0, 0, 1])
@example("é", ["é".encode()[:1], "é".encode()[1:]], [0, 1])
@example("\n", [b"a\nb", b"a"], [1, 0])
def test_a_stop_is_found_where_the_text_has_it(wanted: str, pieces: list[bytes], raw: list[int]):
    tokens = [t % len(pieces) for t in raw]
    found = stops.stop(wanted, pieces)
    expected = first_end(pieces, tokens, wanted.encode())
    assert end_of(found, tokens) == expected


def end_of(found: StopText | tuple[int, ...], tokens: list[int]) -> int | None:
    """The number of tokens at which a row ends, by the tables; None if it does not."""
    if not isinstance(found, StopText):
        return next((n for n, t in enumerate(tokens, 1) if t in found), None)
    column, after = (np.asarray(x) for x in (found.column, found.after))
    state = int(found.first)
    for n, token in enumerate(tokens, 1):
        state = after[state, column[token]]
        if state == len(after):
            return n
    return None


PROSE = "a cat sat\na cat ate\n\nthe é cat; a\tcat é\n" * 3
TOKENIZERS = {
    kind: fit(kind, PROSE, Options(vocabulary=290 if kind == "bpe" else None, marks=("pad",)))
    for kind in ("chars", "bytes", "bpe", "words")
}


def text_at(kind: str, tokens: list[int], wanted: list[str], begun: int) -> tuple[int | None, str]:
    """(tokens until the decoded text holds a stop after its first `begun` characters, the text up to it)."""
    tokenizer = TOKENIZERS[kind]
    for n in range(1, len(tokens) + 1):
        whole = tokenizer.decode(tokens[:n])
        ends = [whole.find(w, begun) + len(w) for w in wanted if whole.find(w, begun) >= 0]
        if ends:
            return n, whole[: min(ends)]
    return None, tokenizer.decode(tokens)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(st.data())
def test_a_row_ends_where_plain_find_has_a_stop_in_the_decoded_text(kind: str, data: st.DataObject):
    """Stops are cut out of texts of this tokenizer, or are any text; the prompt may hold part of one."""
    tokenizer = TOKENIZERS[kind]
    # A few tokens come often, so that a text holds the beginning of a stop twice: "aab" in "aaab".
    often = [*tokenizer.encode("aat a\n").tolist(), tokenizer.special.get("pad", 0)]
    ids = st.lists(st.integers(0, tokenizer.vocabulary - 1) | st.sampled_from(often), max_size=12)
    prompt = tokenizer.encode(data.draw(st.sampled_from(["", "a cat", "the\n", "é"]), "prompt")).tolist()
    other = tokenizer.decode(data.draw(ids, "other"))
    drawn = data.draw(ids, "drawn")
    whole = tokenizer.decode(prompt + drawn)
    part = st.sampled_from([other, whole]).flatmap(
        lambda x: st.builds(lambda i, n: x[i : i + n], st.integers(0, len(x)), st.integers(1, 5))
    )
    own = part.filter(lambda x: x and text.REPLACEMENT not in x)
    anything = st.text("a cté\n\t", min_size=1, max_size=3)
    wanted = data.draw(st.lists(own | anything if other or whole else anything, min_size=1, max_size=3))
    beginning = tokenizer.decode(prompt)
    expected, shown = text_at(kind, prompt + drawn, wanted, len(beginning))
    pieces = data_pieces(tokenizer)
    fresh = not prompt or prompt[-1] in pieces.breaks
    end = end_of(stops.stop(wanted, *pieces, fresh=fresh), drawn)
    assert end == (None if expected is None else expected - len(prompt))
    row = prompt + drawn[:end]
    assert text.Cut(tokenizer, wanted, beginning).decode(row) == shown


@functools.cache
def data_pieces(tokenizer: Any) -> Pieces:
    return pieces_of(tokenizer)


@pytest.mark.parametrize(
    ("prompt", "wanted", "shown"),
    [
        ("", "a", "a"),
        ("", " cat", "the cat"),
        ("the", "e ", None),
        ("a", "\nthe", "a\nthe"),
        ("a\n", " cat", None),
        ("a\n", "cat", "a\ncat"),
    ],
)
def test_spaces_between_words_are_those_of_the_text(prompt: str, wanted: str, shown: str | None):
    """Words carry a space, but not at the beginning of a text or of a line."""
    tokenizer = TOKENIZERS["words"]
    pieces = pieces_of(tokenizer)
    start = tokenizer.encode(prompt).tolist()
    continued = (shown or tokenizer.decode([*start, tokenizer.encode("cat")[0]])).removeprefix(prompt)
    drawn = tokenizer.encode(continued).tolist()
    fresh = not start or start[-1] in pieces.breaks
    end = end_of(stops.stop([wanted], *pieces, fresh=fresh), drawn)
    assert end == (None if shown is None else len(drawn))


def test_a_token_without_text_does_not_separate_words():
    tokenizer = TOKENIZERS["words"]
    pad, cat = tokenizer.special["pad"], int(tokenizer.encode("cat")[0])
    found = stops.stop([" cat"], *pieces_of(tokenizer), fresh=True)
    assert end_of(found, [pad, cat]) is None
    assert end_of(found, [cat, pad, cat]) == 3


def test_a_tokenizer_that_joins_by_other_rules_is_refused():
    class Punctuated(Words):
        def decode(self, tokens: Any) -> str:
            return super().decode(tokens).replace(" ;", ";")

    with pytest.raises(ConfigError, match="stop"):
        pieces_of(Punctuated(["a", ";"]))


@given(st.text(max_size=6))
def test_escapes_are_read_and_other_text_stays(plain: str):
    escaped = plain.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    assert text.unescape(escaped) == plain


@pytest.mark.parametrize("wrong", ["\\", "a\\q", "\ufffd", "\\x4", "\\ud800", "\\U00110000", ""])
def test_what_is_no_text_is_refused(wrong: str):
    with pytest.raises(ConfigError, match="--stop"):
        text.stop_text(wrong)


def test_escapes_of_every_form():
    assert text.unescape("\\n\\t\\r\\\\\\x41\\u00e9\\U0001F600é") == "\n\t\r\\Aé\U0001f600é"


@given(SMALL, st.text("abé\n", max_size=20), st.integers(1, 4))
def test_a_text_is_cut_after_its_first_stop(wanted: str, whole: str, size: int):
    """Tokens of `size` bytes, so that characters and stops are split over them."""
    data = whole.encode()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    n = first_end(pieces, list(range(len(pieces))), wanted.encode())
    if n is None:
        return

    class Slices:
        def decode(self, tokens):
            return b"".join(pieces[int(t)] for t in tokens).decode("utf-8", "replace")

    cut = text.Cut(Slices(), [wanted]).decode(range(n))
    assert cut == whole[: whole.index(wanted) + len(wanted)]


PARTS = (b"a", b"ab", b"b\n", b"\nx", b"\n", b"x")
"""Two tokens hold a newline beside other text; "b\\nx" is split over any of several pairs."""


def drawn(wanted: str, **more) -> tuple:
    keys = jax.random.split(jax.random.key(4), 3)
    return generate(*gpt_decoder(), keys, PROMPTS, length=12, stop=stops.stop(wanted, PARTS), pad=5, **more)


@pytest.mark.parametrize("wanted", ["\n", "b\nx", "xa"])
def test_rows_end_at_their_stop_and_are_the_same_before_it(wanted: str):
    keys = jax.random.split(jax.random.key(4), 3)
    free = generate(*gpt_decoder(), keys, PROMPTS, length=12)
    out = drawn(wanted)
    pieces = list(PARTS)
    ends = [first_end(pieces, row.tolist(), wanted.encode()) for row in np.asarray(free.tokens)]
    assert any(ends)
    for i, end in enumerate(ends):
        n = end or 12
        assert out.lengths[i] == n
        assert np.array_equal(out.tokens[i, :n], free.tokens[i, :n])
        assert (np.asarray(out.tokens[i, n:]) == 5).all()
    how = {"length": 12, "stop": stops.stop(wanted, PARTS), "pad": 5}
    chunks = list(stream(*gpt_decoder(), keys, PROMPTS, chunk=3, **how))
    assert np.array_equal(sum(c.lengths for c in chunks), out.lengths)


def test_the_least_length_holds_for_a_stop_text():
    out = drawn("b\nx", min_length=8)
    for row, n in zip(np.asarray(out.tokens), np.asarray(out.lengths), strict=True):
        assert first_end(list(PARTS), row[:n].tolist(), b"b\nx") in (None, *range(9, 13))


def test_where_a_stop_text_has_no_meaning_it_is_refused():
    found = stops.stop("b\nx", PARTS)
    keys = jax.random.split(jax.random.key(4), 3)
    with pytest.raises(ConfigError, match="stop"):
        beam_search(*gpt_decoder(), PROMPTS, beams=2, length=3, stop=found)
    with pytest.raises(ConfigError, match="stop"):
        speculative.generate(*gpt_decoder(), *gpt_decoder(), keys, PROMPTS, length=3, stop=found)


@pytest.mark.parametrize("kind", ["bytes", "chars", "bpe"])
def test_a_stop_that_one_token_completes_is_that_token(kind: str):
    tokenizer = fit(kind, "the cat.\nthe été\n" * 9, Options(vocabulary=300))
    assert stops.stop(".", [b"." if i == 3 else b"a" for i in range(5)]) == (3,)
    end = tokenizer.encode("\n")[-1]
    found = stops.stop("\n", tokenizer.token_bytes())
    holders = [i for i, b in enumerate(tokenizer.token_bytes()) if b"\n" in b]
    assert isinstance(found, tuple)
    assert list(found) == holders
    assert end in found
