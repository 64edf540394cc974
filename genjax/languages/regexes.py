"""Turn a regular expression of Python's re into an automaton.

Python's own parser reads the pattern, and Python's own matcher says which characters each part of one
character takes, so that classes, escapes, flags and case are those of the running Python. What a finite
automaton cannot express is refused by name.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from genjax.errors import ConfigError
from genjax.languages import characters
from genjax.languages.automata import Automaton, TooLarge
from genjax.languages.characters import ALL, SURROGATES, Alphabet, Characters, Ranges
from genjax.languages.terms import EMPTY, MANY, NONE, Term, Terms

UNROLLED = 50
"""The most repetitions of a part with anchors or lookaheads."""
SINGLE = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}
"""The parts that take one character."""
REFUSED = {
    "GROUPREF": "backreferences",
    "GROUPREF_EXISTS": "conditions on a group",
    "ATOMIC_GROUP": "atomic groups",
    "POSSESSIVE_REPEAT": "possessive quantifiers",
}
START, NEWLINE, ASCII_WORD, WORD, OTHER = range(5)
"""What stands before a position: nothing, or a character of one of four sorts."""
ECMA = 1 << 20
"""A flag beside those of re: see `parse`."""
After = Callable[[int], Term]
"""The term of the rest of the text, given what stands before it."""


def regex(pattern: str) -> Automaton:
    """Return the automaton that accepts, as UTF-8, what `re.fullmatch` matches.

    Raises:
      ConfigError: the pattern is not valid, uses a construct that no finite automaton can express, needs too
        many states, or matches nothing.
    """
    name = f"the regular expression {pattern!r}"
    try:
        found = parse(pattern, name, search=False).utf8()
    except TooLarge:
        raise too_large(name) from None
    if found.empty:
        raise ConfigError(f"{name} matches nothing", "give one that matches")
    return found


def too_large(name: str) -> ConfigError:
    """Return the error of a language whose automaton has too many states."""
    return ConfigError(
        f"{name} needs too many states",
        r"lower the bounds of its repetitions; (?a) makes \w, \d and \s smaller",
    )


def parse(pattern: str, name: str, *, search: bool, ecma: bool = False) -> Characters:
    """Return the automaton over characters of what `re.fullmatch` matches, or `re.search`.

    Args:
      name: of the pattern, for error messages.
      ecma: read the pattern as ECMAScript does: classes in ASCII, `$` at the very end only, and `.` without
        line separators.

    Raises:
      ConfigError: the pattern is not valid, or uses a construct that no finite automaton can express.
      TooLarge: it needs too many states.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of syntax that Python may change
        try:
            re.compile(pattern)
            tree = _parser.parse(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"{name} is not valid: {error}", "see the syntax of Python's re") from error
        try:
            reader = _Reader(tree, name, ecma)
            return reader.terms.automaton(reader.searched() if search else reader.full())
        except RecursionError:
            raise ConfigError(f"{name} is nested too deeply", "give a shorter pattern") from None


class _Reader:
    """Read a parsed pattern."""

    def __init__(self, tree: Any, name: str, ecma: bool):
        self.name = name
        self.tree = tree
        self.flags = tree.state.flags & ~re.UNICODE | re.ASCII | ECMA if ecma else tree.state.flags
        own = list(self._sets(tree, self.flags))
        kinds = _kinds() if _asserts(tree) else {}
        sets = {ALL, *kinds.values(), *own}
        self.terms = Terms(Alphabet(sorted(sets)))
        self.kinds = {kind: self._set(ranges) for kind, ranges in kinds.items()}

    def full(self) -> Term:
        """Return the strings that match in full."""
        return self._items(self.tree, START, lambda _: EMPTY, self.flags)

    def searched(self) -> Term:
        """Return the strings that hold a match."""
        rest = lambda before: self._items(self.tree, before, lambda _: self.terms.all, self.flags)
        return self._then(self.terms.all, START, after=rest)

    def _refuse(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.name} uses {what}, which no finite automaton of this package has",
            "write the pattern without: it always matches in full",
        )

    def _set(self, ranges: Ranges) -> Term:
        return self.terms.set(self.terms.alphabet.mask(ranges))

    def _sets(self, items: Any, flags: int) -> Iterator[Ranges]:
        """Yield the sets of characters of a pattern; refuse what cannot be expressed."""
        for op, argument in items:
            kind = str(op)
            if kind in REFUSED:
                raise self._refuse(REFUSED[kind])
            if kind in ("ASSERT", "ASSERT_NOT") and argument[0] < 0:
                raise self._refuse("lookbehind")
            if kind in SINGLE:
                yield _single(op, argument, flags)
            else:
                for inner, own in _inner(kind, argument, flags):
                    yield from self._sets(inner, own)

    def _items(self, items: Any, before: int, after: After, flags: int) -> Term:
        """Return the strings of a sequence, followed by those of `after`."""
        for plain, run in reversed([(k, list(g)) for k, g in itertools.groupby(items, _plain)]):
            if plain:
                after = functools.cache(functools.partial(self._then, self._plain(run, flags), after=after))
                continue
            for item in reversed(run):
                after = functools.cache(functools.partial(self._item, *item, after=after, flags=flags))
        return after(before)

    def _item(self, op: Any, argument: Any, before: int, *, after: After, flags: int) -> Term:
        """Return a part with an anchor or a lookahead, followed by `after`."""
        kind = str(op)
        if kind == "AT":
            return self._at(str(argument), before, after(before), flags)
        if kind in ("ASSERT", "ASSERT_NOT"):
            found = self._items(argument[1], before, lambda _: self.terms.all, flags)
            return self.terms.both([after(before), found if kind == "ASSERT" else self.terms.negate(found)])
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            return self._repeat(argument, 0, before, after, flags)
        return self.terms.either(
            [self._items(inner, before, after, own) for inner, own in _inner(kind, argument, flags)]
        )

    def _plain(self, items: Iterable[Any], flags: int) -> Term:
        """Return the strings of a sequence without anchors and lookaheads."""
        parts = [self._part(op, argument, flags) for op, argument in items]
        return functools.reduce(lambda rest, part: self.terms.then(part, rest), reversed(parts), EMPTY)

    def _part(self, op: Any, argument: Any, flags: int) -> Term:
        kind = str(op)
        if kind in SINGLE:
            return self._set(_single(op, argument, flags))
        found = [self._plain(inner, own) for inner, own in _inner(kind, argument, flags)]
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, _ = argument
            return self.terms.repeat(found[0], int(low), MANY if high == _constants.MAXREPEAT else int(high))
        return self.terms.either(found)

    def _repeat(self, argument: Any, count: int, before: int, after: After, flags: int) -> Term:
        """Return a repetition of a part with anchors or lookaheads, written out."""
        low, high, inner = argument
        if high == _constants.MAXREPEAT or high > UNROLLED:
            raise self._refuse("an anchor or a lookahead inside a repetition without a small bound")
        again = lambda b: self._repeat(argument, count + 1, b, after, flags)
        found = [after(before)] if count >= low else []
        if count < high:
            found.append(self._items(inner, before, functools.cache(again), flags))
        return self.terms.either(found)

    def _then(self, term: Term, before: int, *, after: After) -> Term:
        """Return the strings of a term, followed by those of `after` for the last character of the term."""
        rest = {kind: after(kind) for kind in self.kinds}
        if len({*rest.values(), after(before)}) == 1:
            return self.terms.then(term, after(before))
        found = [after(before)] if self.terms.nullable(term) else []
        for kind, last in self.kinds.items():
            ends = self.terms.both([term, self.terms.then(self.terms.all, last)])
            found.append(self.terms.then(ends, rest[kind]))
        return self.terms.either(found)

    def _at(self, where: str, before: int, rest: Term, flags: int) -> Term:
        """Return the strings of `rest` that an anchor allows."""
        newline = self.kinds[NEWLINE]
        if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            lines = flags & re.MULTILINE and where == "AT_BEGINNING"
            return rest if before == START or (lines and before == NEWLINE) else NONE
        if where == "AT_END_STRING":
            return self.terms.both([rest, EMPTY])
        if where == "AT_END":
            if flags & ECMA and not flags & re.MULTILINE:
                return self.terms.both([rest, EMPTY])
            more = self.terms.all if flags & re.MULTILINE else EMPTY
            return self.terms.both([rest, self.terms.either([EMPTY, self.terms.then(newline, more)])])
        word = {ASCII_WORD} if flags & re.ASCII else {ASCII_WORD, WORD}
        boundary = where == "AT_BOUNDARY"
        if not boundary and before == START and sys.version_info < (3, 14):
            rest = self.terms.both([rest, self.terms.negate(EMPTY)])  # \B is not found in an empty text
        to_word = (before in word) != boundary
        next_is = [s for kind, s in self.kinds.items() if (kind in word) == to_word]
        starts = self.terms.then(self.terms.either(next_is), self.terms.all)
        return self.terms.both([rest, starts if to_word else self.terms.either([EMPTY, starts])])


def _inner(kind: str, argument: Any, flags: int) -> list[tuple[Any, int]]:
    """Return the (patterns, flags) inside of a part."""
    if kind == "SUBPATTERN":
        _, add, drop, inner = argument
        return [(inner, _flags(flags, add, drop))]
    if kind == "BRANCH":
        return [(inner, flags) for inner in argument[1]]
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        return [(argument[2], flags)]
    if kind in ("ASSERT", "ASSERT_NOT"):
        return [(argument[1], flags)]
    if kind in ("FAILURE", "AT"):
        return []
    raise AssertionError(f"a part of a pattern that was not refused before: {kind}")


def _flags(flags: int, add: int, drop: int) -> int:
    """Return the flags inside of a group, as the compiler of re combines them."""
    types = re.ASCII | re.LOCALE | re.UNICODE
    return ((flags & ~types if add & types else flags) | add) & ~drop


def _plain(item: Any) -> bool:
    return not _asserts([item])


def _asserts(items: Iterable[Any]) -> bool:
    """Return whether a pattern has anchors or lookaheads."""
    for op, argument in items:
        kind = str(op)
        if kind in ("AT", "ASSERT", "ASSERT_NOT"):
            return True
        if kind not in SINGLE and any(_asserts(inner) for inner, _ in _inner(kind, argument, 0)):
            return True
    return False


def _single(op: Any, argument: Any, flags: int) -> Ranges:
    """Return the characters that a part of one character takes: what Python's matcher finds among all."""
    if str(op) == "LITERAL" and not flags & re.IGNORECASE:
        return ((argument, argument),) if argument not in SURROGATES else ()
    if str(op) == "ANY" and flags & ECMA and not flags & re.DOTALL:
        return _class(r"[^\n\r\u2028\u2029]")
    kept = argument if not isinstance(argument, list) else tuple(argument)
    return _found(op, kept, flags & (re.IGNORECASE | re.ASCII | re.UNICODE | re.DOTALL))


@functools.lru_cache(maxsize=512)
def _found(op: Any, argument: Any, flags: int) -> Ranges:
    argument = list(argument) if isinstance(argument, tuple) else argument
    state = _parser.State()
    state.flags = flags
    state.str = ""
    one = _parser.SubPattern(state, [(op, argument)])
    runs = _parser.SubPattern(state, [(_constants.MAX_REPEAT, (1, _constants.MAXREPEAT, one))])
    found: list[tuple[int, int]] = []
    for match in _compiler.compile(runs, flags).finditer(_everything()):
        low, high = (ord(c) for c in (match[0][0], match[0][-1]))
        if low < SURROGATES.start and high >= SURROGATES.stop:
            found += [(low, SURROGATES.start - 1), (SURROGATES.stop, high)]
        else:
            found.append((low, high))
    return tuple(found)


@functools.cache
def _everything() -> str:
    return "".join(map(chr, (*range(SURROGATES.start), *range(SURROGATES.stop, characters.POINTS))))


@functools.cache
def _kinds() -> dict[int, Ranges]:
    """Return the characters of each kind that word boundaries and beginnings of lines tell apart."""
    return {
        NEWLINE: _class("\\n"),
        ASCII_WORD: _class("[a-zA-Z0-9_]"),
        WORD: _class("[^\\W a-zA-Z0-9_]"),
        OTHER: _class("[^\\w\\n]"),
    }


def _class(pattern: str) -> Ranges:
    ((op, argument),) = _parser.parse(pattern)
    return _single(op, argument, re.UNICODE)
