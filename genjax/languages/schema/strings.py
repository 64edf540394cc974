"""Strings of JSON, with their quotes. Each character has one form: json.dumps(..., ensure_ascii=False)."""

from __future__ import annotations

import functools
import json

from genjax.languages.automata import Automaton, words
from genjax.languages.characters import ALL, Alphabet
from genjax.languages.operations import both, joined, union, without
from genjax.languages.regexes import parse
from genjax.languages.terms import MANY, Terms

_LABEL = "[a-z][a-z0-9]{0,15}"
_HOST = rf"{_LABEL}(\.{_LABEL}){{1,3}}"
_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_DATE = rf"(19|20)[0-9]{{2}}-{_DAY}"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK})"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_POINTER = "(/[a-z0-9_]{0,12}){0,4}"
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": "P([0-9]{1,3}W|[0-9]{1,3}D(T[0-9]{1,3}[HMS])?|T[0-9]{1,3}[HMS])",
    "email": rf"[a-z0-9]{{1,16}}(\.[a-z0-9]{{1,16}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "uri": rf"https?://{_HOST}(/[a-z0-9_]{{0,16}}){{0,4}}",
    "json-pointer": _POINTER,
}
"""A regular expression for some strings of each format."""
_ENDS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def literal(text: str) -> Automaton:
    """Return one string.

    Raises:
      ConfigError: it has lone surrogates.
    """
    return words([json.dumps(text, ensure_ascii=False)])


def _quoted(inside: Automaton) -> Automaton:
    quote = words(['"'])
    return joined(quote, inside, quote)


@functools.lru_cache(maxsize=64)
def matching(pattern: str) -> tuple[Automaton, Automaton]:
    """Return the strings in which Python's re and ECMAScript find a pattern, and those in which either does.

    They differ in classes outside of ASCII, and in `$` before a newline.

    Raises:
      ConfigError: see `regexes.parse`.
      TooLarge: it needs too many states.
    """
    python, ecma = (_pattern(pattern, search=True, ecma=ecma) for ecma in (False, True))
    if without(python, ecma).empty and without(ecma, python).empty:
        return python, python
    return both(python, ecma), union([python, ecma])


def _pattern(pattern: str, *, search: bool, ecma: bool = False) -> Automaton:
    return _quoted(parse(pattern, f"the pattern {pattern!r}", search=search, ecma=ecma).json())


@functools.lru_cache(maxsize=64)
def sized(least: int, most: int | None) -> Automaton:
    """Return the strings of `least` to `most` characters.

    Raises:
      TooLarge: it needs too many states.
    """
    terms = Terms(Alphabet([ALL]))
    return _quoted(terms.automaton(terms.repeat(terms.any, least, MANY if most is None else most)).json())


def strings() -> Automaton:
    """Return all strings."""
    return sized(0, None)


@functools.lru_cache(maxsize=64)
def of_format(name: str) -> Automaton:
    """Return some strings of a format of FORMATS."""
    return _pattern(FORMATS[name], search=False)


@functools.lru_cache(maxsize=64)
def ending(part: int, parts: int) -> Automaton:
    """Return one of some parts of all strings, which differ in the last character."""
    if parts == 1:
        return strings()
    last = lambda chosen: _pattern(f"(?s).*[{''.join(chosen)}]", search=False, ecma=False)
    if part:
        return last(c for i, c in enumerate(_ENDS) if i % parts == part)
    return without(strings(), last(c for i, c in enumerate(_ENDS) if i % parts))
