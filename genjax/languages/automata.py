"""Deterministic automata over bytes: the form in which every language of this package ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from genjax.errors import ConfigError

S = TypeVar("S", bound=Hashable)
STATES = 40_000
"""The most states of an automaton: a kilobyte each."""


class TooLarge(Exception):
    """Report that an automaton would need more than STATES states."""


@dataclasses.dataclass(frozen=True, eq=False)
class Automaton:
    """Define a language of byte strings. State 0 is the start.

    Attributes:
      step: (S, 256) int32: the state after a byte; -1 if no string of the language continues with it.
      accepts: (S,) bool: a string of the language may end in this state.
    """

    step: np.ndarray
    accepts: np.ndarray

    def matches(self, text: bytes) -> bool:
        """Return whether `text` is in the language."""
        state = 0
        for byte in text:
            state = int(self.step[state, byte])
            if state < 0:
                return False
        return bool(self.accepts[state])

    @property
    def empty(self) -> bool:
        """Return True if no string is accepted; all states must lead to an accepting one (`minimal`)."""
        return not self.accepts.any()


NOTHING = Automaton(np.full((1, 256), -1, np.int32), np.zeros(1, bool))
"""The language without strings."""


def words(choices: Iterable[str | bytes]) -> Automaton:
    """Return the automaton that accepts exactly these words: a trie of their bytes.

    Raises:
      ConfigError: there are no words, or a word is no Unicode text.
    """
    rows: list[dict[int, int]] = [{}]
    ends = set()
    for word in choices:
        state = 0
        for byte in _encoded(word):
            if byte not in rows[state]:
                rows[state][byte] = len(rows)
                rows.append({})
            state = rows[state][byte]
        ends.add(state)
    if not ends:
        raise ConfigError("the list of words is empty", "give at least one word")
    return pack(rows, ends)


def _encoded(word: str | bytes) -> bytes:
    if isinstance(word, bytes):
        return word
    try:
        return word.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{word!r} is no Unicode text: {error.reason}", "leave it out") from error


def explore(start: S, step: Callable[[S], Mapping[int, S]], accepts: Callable[[S], bool]) -> Automaton:
    """Return the automaton of the states that can be reached from `start`.

    Args:
      step: {byte: next state} of a state.
    """
    number = {start: 0}
    order = [start]
    rows: list[dict[int, int]] = []
    for state in order:
        row = {}
        for byte, target in step(state).items():
            if target not in number:
                number[target] = len(order)
                order.append(target)
            row[byte] = number[target]
        rows.append(row)
    return pack(rows, [i for i, state in enumerate(order) if accepts(state)])


def pack(rows: list[dict[int, int]], ends: Iterable[int]) -> Automaton:
    """Return the automaton of these transitions, one dict {byte: state} per state."""
    step = np.full((len(rows), 256), -1, np.int32)
    for state, row in enumerate(rows):
        for byte, to in row.items():
            step[state, byte] = to
    accepts = np.zeros(len(rows), bool)
    accepts[list(ends)] = True
    return Automaton(step, accepts)
