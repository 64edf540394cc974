"""Build deterministic automata over bytes from a regular expression or a list of words. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from genjax.errors import ConfigError

CONTINUATION = range(0x80, 0xC0)
"""The bytes of a UTF-8 sequence after its first."""
SECOND = {0xE0: range(0xA0, 0xC0), 0xED: range(0x80, 0xA0), 0xF0: range(0x90, 0xC0), 0xF4: range(0x80, 0x90)}
"""The second bytes that UTF-8 allows after these first bytes; else CONTINUATION (RFC 3629, section 4)."""


@dataclasses.dataclass(frozen=True)
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


def words(choices: Iterable[str | bytes]) -> Automaton:
    """Return the automaton that accepts exactly these words: a trie of their bytes.

    Raises:
      ConfigError: there are no words.
    """
    rows: list[dict[int, int]] = [{}]
    ends = set()
    for word in choices:
        state = 0
        for byte in word.encode() if isinstance(word, str) else word:
            if byte not in rows[state]:
                rows[state][byte] = len(rows)
                rows.append({})
            state = rows[state][byte]
        ends.add(state)
    if not ends:
        raise ConfigError("the list of words is empty", "give at least one word")
    return _pack(rows, ends)


def regex(pattern: str) -> Automaton:
    """Return the automaton that accepts what `pattern` matches in full, as UTF-8.

    The syntax is that of Python's re with re.ASCII, without anchors, backreferences and lookbehind.

    Raises:
      ConfigError: the pattern is not valid, uses a construct that no finite automaton can express, or matches
        nothing.
    """
    from interegular.fsm import anything_else

    machine = _machine(pattern)
    if machine.empty():
        raise ConfigError(f"the regular expression {pattern!r} matches nothing", "give one that matches")
    classes = {symbol: machine.alphabet[symbol] for symbol in machine.alphabet}
    other = machine.alphabet[anything_else]
    named = {symbol: c for symbol, c in classes.items() if isinstance(symbol, str) and c != other}
    return _Bytes(machine, named, other).automaton()


def _machine(pattern: str) -> Any:
    """Return the minimal automaton over characters of a regular expression."""
    import interegular
    from interegular.patterns import InvalidSyntax, Unsupported

    try:
        return interegular.parse_pattern(pattern).to_fsm().reduce()
    except (Unsupported, NotImplementedError) as error:
        reason = f": {error}" if str(error) else ""
        raise ConfigError(
            f"the regular expression {pattern!r} uses a construct that no finite automaton has{reason}",
            "leave out anchors, backreferences and lookbehind: the pattern always matches in full",
        ) from error
    except InvalidSyntax as error:
        raise ConfigError(
            f"the regular expression {pattern!r} is not valid", "see the syntax of Python's re"
        ) from error
    except Exception as error:  # The parser raises many kinds for patterns such as a{2,1}.
        raise ConfigError(
            f"the regular expression {pattern!r} cannot be parsed: {error}", "see the syntax of Python's re"
        ) from error


class _Bytes:
    """Convert an automaton over characters to one over their UTF-8 bytes."""

    def __init__(self, machine: Any, named: Mapping[str, Any], other: Any):
        self.machine = machine
        self.named = named
        self.other = other
        self.live = {state for state in machine.states if machine.islive(state)}
        order = [machine.initial, *sorted(self.live - {machine.initial})]
        self.number = {state: i for i, state in enumerate(order)}
        self.rows: list[dict[int, int]] = [{} for _ in order]
        self.known: dict[Any, int] = {}
        self.order = order

    def automaton(self) -> Automaton:
        """Return the automaton over bytes."""
        wide = {c: symbol.encode() for symbol, c in self.named.items() for c in [symbol] if ord(c) >= 0x80}
        for state in self.order:
            targets = self.machine.map.get(state, {})
            goes = lambda c, targets=targets: self.number.get(targets.get(c), -1)
            others = goes(self.other)
            row = self.rows[self.number[state]]
            for byte in range(0x80):
                row[byte] = goes(self.named.get(chr(byte), self.other))
            special = {code: goes(self.named[c]) for c, code in wide.items() if goes(self.named[c]) != others}
            for lead in range(0xC2, 0xF5):
                row[lead] = self._after(bytes([lead]), others, special)
        finals = {self.number[s] for s in self.machine.finals if s in self.number}
        return _pack(self.rows, finals)

    def _after(self, prefix: bytes, others: int, special: Mapping[bytes, int]) -> int:
        """Return the state after a character's first bytes.

        Args:
          prefix: the first bytes.
          others: the state after any character that is not special.
          special: {encoded character: the state after it}, where that is another state.
        """
        special = {code: to for code, to in special.items() if code.startswith(prefix)}
        if others < 0 and all(to < 0 for to in special.values()):
            return -1
        lead = prefix[0]
        # The first byte says how many bytes the character has.
        size = 2 + (lead >= 0xE0) + (lead >= 0xF0)
        if len(prefix) == size:
            return special.get(prefix, others)
        seconds = SECOND.get(lead, CONTINUATION) if len(prefix) == 1 else CONTINUATION
        rest = tuple(sorted((code[len(prefix) :], to) for code, to in special.items()))
        # Prefixes with equal continuations share a state.
        key = (size - len(prefix), seconds, others, rest)
        if key not in self.known:
            self.known[key] = len(self.rows)
            self.rows.append({})
            row = self.rows[self.known[key]]
            for byte in seconds:
                row[byte] = self._after(prefix + bytes([byte]), others, special)
        return self.known[key]


def _pack(rows: list[dict[int, int]], ends: Iterable[int]) -> Automaton:
    """Return the automaton of these transitions, one dict {byte: state} per state."""
    step = np.full((len(rows), 256), -1, np.int32)
    for state, row in enumerate(rows):
        for byte, to in row.items():
            step[state, byte] = to
    accepts = np.zeros(len(rows), bool)
    accepts[list(ends)] = True
    return Automaton(step, accepts)
