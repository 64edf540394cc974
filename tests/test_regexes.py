"""Regular expressions mean what they mean in Python's re, or are refused by name."""

from __future__ import annotations

import random
import re
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from genjax.errors import ConfigError
from genjax.languages import regexes
from genjax.languages.automata import Automaton

LETTERS = "abA1_ -]^\n.é\u212aKkſsΣσςß٣€\U0001f600"
"""Case pairs outside ASCII, digits that are not ASCII, and two, three and four bytes of UTF-8."""
CLASSES = (
    "a",
    "A",
    "é",
    "σ",
    "k",
    "1",
    "]",
    "a-c",
    "Σ-ω",
    r"\d",
    r"\W",
    r"\s",
    r"\]",
    "^",
    "-",
    "&",
    ".",
    "|",
)


@st.composite
def char_class(draw) -> str:
    first = draw(st.sampled_from(["", "^", "]", "^]"]))
    members = draw(st.lists(st.sampled_from(CLASSES), min_size=not first.endswith("]"), max_size=4))
    return f"[{first}{''.join(members)}]"


ATOMS = st.one_of(
    st.sampled_from(
        ["a", "b", "k", "é", "σ", "ß", " ", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\.", "]"]
    ),
    st.sampled_from([r"\n", r"\x61", r"\u212a", r"\U0001f600", "(?#a|b)", "()", "(?:)"]),
    st.sampled_from(["^", "$", r"\A", r"\Z", r"\b", r"\B"]),
    char_class(),
)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    opens = ["(", "(?:", "(?i:", "(?s:", "(?m:", "(?a:", "(?x:", "(?-i:", "(?=", "(?!", "(?P<n>"]
    again = ["", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "*?", "+?", "??", "{1,2}?"]
    group = st.builds("{}{}){}".format, st.sampled_from(opens), inner, st.sampled_from(again))
    return st.one_of(
        group,
        st.builds("{}{}".format, inner, inner),
        st.builds("{}|{}".format, inner, inner),
    )


PATTERNS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "(?i)", "(?a)", "(?m)", "(?s)"]),
    st.recursive(ATOMS, _nested, max_leaves=6),
)
TEXTS = st.lists(st.text(LETTERS, max_size=5), min_size=12, max_size=12)


def compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except re.error:
            assume(False)
            raise


def walk(automaton: Automaton, rng: random.Random, most: int = 60) -> bytes | None:
    """A text of the language; None if it gets too long."""
    state, text = 0, b""
    while len(text) < most:
        if automaton.accepts[state] and rng.random() < 0.4:
            return text
        ways = np.flatnonzero(automaton.step[state] >= 0)
        if not len(ways):
            return text
        byte = int(rng.choice(ways))
        state, text = int(automaton.step[state, byte]), text + bytes([byte])
    return None


@given(PATTERNS, TEXTS, st.randoms(use_true_random=False))
@settings(max_examples=250)
def test_an_automaton_accepts_what_python_matches(pattern: str, texts: list[str], rng: random.Random):
    expected = compiled(pattern)
    automaton = found(pattern)
    for text in texts:
        accepted = automaton is not None and automaton.matches(text.encode())
        assert accepted == bool(expected.fullmatch(text)), text
    drawn = [walk(automaton, rng) for _ in range(8)] if automaton else []
    for text in [text.decode() for text in drawn if text is not None]:
        assert expected.fullmatch(text), text
        for near in (text.swapcase(), text + "\n", text[1:], text + "a"):
            assert automaton is not None
            assert automaton.matches(near.encode()) == bool(expected.fullmatch(near)), near


def found(pattern: str) -> Automaton | None:
    """The automaton of a pattern; None if nothing matches."""
    try:
        return regexes.regex(pattern)
    except ConfigError as error:
        assume("inside a repetition" not in str(error))
        if "matches nothing" not in str(error):
            raise
        return None


@given(PATTERNS, TEXTS)
@settings(max_examples=100)
def test_a_search_finds_what_python_finds(pattern: str, texts: list[str]):
    expected = compiled(pattern)
    try:
        automaton = regexes.parse(pattern, "it", search=True).utf8()
    except ConfigError:
        return
    for text in texts:
        assert automaton.matches(text.encode()) == bool(expected.search(text)), text


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a", "is not valid: missing"),
        ("a{2,1}", "is not valid: min repeat"),
        (r"\p{L}", "bad escape"),
        (r"(a)\1", "backreferences"),
        ("(?P<x>a)(?(x)b|c)", "conditions on a group"),
        ("(?<=a)b", "lookbehind"),
        ("(?<!a)b", "lookbehind"),
        ("a*+b", "possessive quantifiers"),
        ("(?>a)b", "atomic groups"),
        ("(^a|b)*", "inside a repetition"),
        (r"[^\s\S]", "matches nothing"),
        ("a(?=b)", "matches nothing"),
        (r"\w{1,500}", "too many states"),
        ("(a|b)*a(a|b){40}", "too many states"),
        ("(" * 3000 + ")" * 3000, "nested too deeply|is not valid"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(pattern: str, says: str):
    with pytest.raises(ConfigError, match=says):
        regexes.regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("(?i:k)k", "Kk", "KK"),
        ("(?i)(?-i:k)k", "kK", "KK"),
        ("(?i)\\w", "\u212a", "-"),
        ("(?a:\\w)\\w", "aé", "éa"),
        ("[]a]", "]", "b"),
        ("[^]a]", "b", "]"),
        ("a(?#b|c)d", "ad", "abd"),
        ("(?m)a$\\nb", "a\nb", "a\n"),
        ("a$\\n?", "a\n", "a\n\n"),
        ("(?s:.).", "\na", "a\n"),
        ("(?!ab)[ab]{2}", "ba", "ab"),
        ("a\\b.b", "a b", "aab"),
        ("(?x) a b # c", "ab", "a b"),
    ],
)
def test_syntax_that_is_easily_misread(pattern: str, yes: str, no: str):
    assert re.fullmatch(pattern, yes)
    assert not re.fullmatch(pattern, no)
    automaton = regexes.regex(pattern)
    assert automaton.matches(yes.encode())
    assert not automaton.matches(no.encode())


def test_characters_are_whole():
    anything = regexes.regex("[^x]")
    for character in ("a", "é", "€", "\U0001f600", "\u07ff", "\uffff", "\U0010ffff"):
        assert anything.matches(character.encode())
        assert not anything.matches(character.encode()[:-1])
    for wrong in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\x80"):
        assert not anything.matches(wrong)
    greek = regexes.regex("[α-ω]|€")
    assert all(greek.matches(c.encode()) for c in "αβω€")
    assert not any(greek.matches(c.encode()) for c in "aΑ¬₭")


def test_a_long_pattern_is_no_deep_one():
    assert regexes.regex("a" * 5000).matches(b"a" * 5000)
