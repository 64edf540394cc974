"""Regular expressions over classes of characters, with intersection and complement, and their derivatives.

The derivative of a language by a character is what may follow that character. Its terms, made equal where
they obviously are, are the states of an automaton (Brzozowski 1964, doi:10.1145/321239.321249).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from genjax.languages.automata import STATES, TooLarge
from genjax.languages.characters import Alphabet, Characters

Term = int
"""The number of a term: equal terms have equal numbers."""
NONE: Term = 0
EMPTY: Term = 1
MANY = 1 << 30
"""The upper bound of an unbounded repetition."""


class Terms:
    """Make terms over the classes of an alphabet."""

    def __init__(self, alphabet: Alphabet):
        self.alphabet = alphabet
        self._number: dict[tuple, Term] = {}
        self._key: list[tuple] = []
        self._nullable: list[bool] = []
        self._derived: dict[tuple[Term, int], Term] = {}
        self._make(("none",), False)
        self._make(("empty",), True)
        self.any = self.set((1 << alphabet.size) - 1)
        self.all = self.repeat(self.any, 0, MANY)

    def _make(self, key: tuple, nullable: bool) -> Term:
        if key not in self._number:
            self._number[key] = len(self._key)
            self._key.append(key)
            self._nullable.append(nullable)
            if len(self._key) > 8 * STATES:
                raise TooLarge
        return self._number[key]

    def nullable(self, term: Term) -> bool:
        """Return whether the empty string is in the language."""
        return self._nullable[term]

    def set(self, mask: int) -> Term:
        """Return the strings of one character of these classes."""
        return self._make(("set", mask), False) if mask else NONE

    def then(self, first: Term, second: Term) -> Term:
        """Return the strings of the first followed by those of the second."""
        if NONE in (first, second):
            return NONE
        if first == EMPTY:
            return second
        if second == EMPTY:
            return first
        if self._key[first][0] == "then":
            _, a, b = self._key[first]
            return self.then(a, self.then(b, second))
        return self._make(("then", first, second), self.nullable(first) and self.nullable(second))

    def either(self, terms: Iterable[Term]) -> Term:
        """Return the strings of any of the terms."""
        found = self._flat("either", terms) - {NONE}
        if self.all in found:
            return self.all
        if len(found) < 2:
            return next(iter(found), NONE)
        return self._make(("either", *sorted(found)), any(map(self.nullable, found)))

    def both(self, terms: Iterable[Term]) -> Term:
        """Return the strings of all of the terms."""
        found = self._flat("both", terms) - {self.all}
        if NONE in found:
            return NONE
        if len(found) < 2:
            return next(iter(found), self.all)
        return self._make(("both", *sorted(found)), all(map(self.nullable, found)))

    def _flat(self, kind: str, terms: Iterable[Term]) -> set[Term]:
        found = set()
        for term in terms:
            key = self._key[term]
            found |= set(key[1:]) if key[0] == kind else {term}
        return found

    def negate(self, term: Term) -> Term:
        """Return all other strings."""
        if self._key[term][0] == "not":
            return self._key[term][1]
        if term == NONE:
            return self.all
        return NONE if term == self.all else self._make(("not", term), not self.nullable(term))

    def repeat(self, term: Term, low: int, high: int) -> Term:
        """Return strings of the term, between `low` and `high` of them one after another."""
        low = 0 if self.nullable(term) else low
        if high == 0 or term == EMPTY or (term == NONE and not low):
            return EMPTY
        if term == NONE or (low, high) == (1, 1):
            return term
        return self._make(("repeat", term, low, high), not low)

    def derive(self, term: Term, c: int) -> Term:
        """Return what may follow a character of class `c`."""
        if (term, c) not in self._derived:
            self._derived[term, c] = self._derive(term, c)
        return self._derived[term, c]

    def _derive(self, term: Term, c: int) -> Term:
        kind, *rest = self._key[term]
        if kind == "set":
            return EMPTY if rest[0] >> c & 1 else NONE
        if kind == "then":
            first, second = rest
            found = self.then(self.derive(first, c), second)
            return self.either([found, self.derive(second, c)]) if self.nullable(first) else found
        if kind == "either":
            return self.either([self.derive(t, c) for t in rest])
        if kind == "both":
            return self.both([self.derive(t, c) for t in rest])
        if kind == "not":
            return self.negate(self.derive(rest[0], c))
        if kind == "repeat":
            inner, low, high = rest
            left = high if high >= MANY else high - 1
            return self.then(self.derive(inner, c), self.repeat(inner, max(low - 1, 0), left))
        return NONE

    def automaton(self, start: Term) -> Characters:
        """Return the automaton whose states are the derivatives of a term.

        Raises:
          TooLarge: there are too many.
        """
        number = {start: 0}
        order = [start]
        rows = []
        for term in order:
            row = []
            for c in range(self.alphabet.size):
                after = self.derive(term, c)
                if after != NONE and after not in number:
                    number[after] = len(order)
                    order.append(after)
                row.append(number.get(after, -1))
            if len(order) > STATES:
                raise TooLarge
            rows.append(row)
        accepts = np.array([self.nullable(term) for term in order])
        return Characters(np.array(rows, np.int32), accepts, self.alphabet)
