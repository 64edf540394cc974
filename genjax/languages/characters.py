"""Turn automata over characters into automata over bytes: of UTF-8, or of the inside of a JSON string.

A set is a tuple of ranges (first, last) of code points in ascending order. Surrogates are no characters.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from genjax.languages.automata import STATES, Automaton, TooLarge
from genjax.languages.operations import minimal, unique_rows

Ranges = tuple[tuple[int, int], ...]
POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
ALL: Ranges = ((0, 0xD7FF), (0xE000, POINTS - 1))
ESCAPED = (*range(0x20), 0x22, 0x5C)
"""The characters that a JSON string cannot hold as they are (RFC 8259, section 7)."""
TAIL = 64
"""The number of bytes that may continue a UTF-8 sequence."""


class Alphabet:
    """Divide the characters into classes, so that each of some sets is a union of classes.

    Attributes:
      size: the number of classes.
      of: (POINTS,) the class of each code point; -1 for surrogates.
    """

    def __init__(self, sets: Sequence[Ranges]):
        cuts = {0, SURROGATES.start, SURROGATES.stop, POINTS}
        for ranges in sets:
            for low, high in ranges:
                cuts |= {low, high + 1}
        edges = np.array(sorted(cuts))
        member = np.stack([_member(ranges, edges[:-1]) for ranges in (ALL, *sets)])
        kinds, kind = np.unique(member, axis=1, return_inverse=True)
        kind = kind.reshape(-1)
        real = kinds[0]
        number = np.where(real, np.cumsum(real) - 1, -1)
        self.size = int(real.sum())
        self.of = np.repeat(number[kind], np.diff(edges)).astype(np.int16)
        self._masks = {
            ranges: sum(1 << int(number[k]) for k in np.flatnonzero(row & real))
            for ranges, row in zip((ALL, *sets), kinds, strict=True)
        }

    def mask(self, ranges: Ranges) -> int:
        """Return the classes of one of the sets as bits."""
        return self._masks[ranges]


def _member(ranges: Ranges, points: np.ndarray) -> np.ndarray:
    """Return which points lie in the ranges."""
    edges = np.array([x for low, high in ranges for x in (low, high + 1)], np.int64)
    return np.searchsorted(edges, points, side="right") % 2 == 1


@dataclasses.dataclass(frozen=True)
class Characters:
    """Hold an automaton over characters.

    Attributes:
      step: (S, classes): the state after a character of a class; -1 if no string goes on with it.
      accepts: (S,) bool.
      alphabet: its classes.
    """

    step: np.ndarray
    accepts: np.ndarray
    alphabet: Alphabet

    def utf8(self) -> Automaton:
        """Return the automaton over the bytes of UTF-8.

        Raises:
          TooLarge: it needs too many states.
        """
        return _Bytes(self, escaped=()).automaton()

    def json(self) -> Automaton:
        """Return the automaton over the bytes between the quotes of a JSON string.

        Each character has one form, that of json.dumps(..., ensure_ascii=False).

        Raises:
          TooLarge: it needs too many states.
        """
        return _Bytes(self, escaped=ESCAPED).automaton()


class _Bytes:
    """Convert an automaton over characters: from each of its states, a tree reads the bytes of a character.

    A node of a tree is a block of 64 code points with equal first bytes, or of 64 such blocks. Blocks whose
    characters are of the same classes are one.
    """

    def __init__(self, machine: Characters, escaped: Sequence[int]):
        S = len(machine.step)
        dead = np.full((S, 1), -1, np.int32)
        # After a class of characters; the last column, -1, is none.
        self.after = np.concatenate([machine.step, dead], axis=1).astype(np.int32)
        self.accepts = machine.accepts
        self.classes = machine.alphabet.of.astype(np.int64)
        self.escaped = escaped
        self.parts = [np.full((S, 256), -1, np.int32)]

    def automaton(self) -> Automaton:
        plain = np.setdiff1d(np.arange(0x80), self.escaped)
        self.parts[0][:, plain] = self.after[:, self.classes[plain]]
        self._leads(0xC0, 2, 0x80, 0x800)
        self._leads(0xE0, 3, 0x800, 0x10000)
        self._leads(0xF0, 4, 0x10000, POINTS)
        if self.escaped:
            self._escapes()
        step = np.concatenate(self.parts)
        accepts = np.zeros(len(step), bool)
        accepts[: len(self.accepts)] = self.accepts
        return minimal(Automaton(step, accepts))

    def _add(self, rows: np.ndarray) -> np.ndarray:
        """Add states and return their numbers."""
        at = sum(map(len, self.parts))
        if at + len(rows) > 2 * STATES:
            raise TooLarge
        self.parts.append(rows)
        return np.arange(at, at + len(rows), dtype=np.int32)

    def _leads(self, lead: int, size: int, low: int, high: int) -> None:
        """Add the characters in [low, high), of `size` bytes, the first of which is `lead` or more."""
        codes = self.classes.copy()
        codes[:low] = -1
        codes[high:] = -1
        # (S, nodes): the state that each node stands for; a node is first a character's class.
        nodes = self.after
        codes = codes[: -(-high // TAIL ** (size - 1)) * TAIL ** (size - 1)] if size < 4 else codes
        codes = np.pad(codes, (0, -len(codes) % TAIL ** (size - 1)), constant_values=-1)
        for _ in range(size - 1):
            nodes, codes = self._level(nodes, codes.reshape(-1, TAIL))
        firsts = lead + np.arange(len(codes))
        self.parts[0][:, firsts] = nodes[:, codes]

    def _level(self, nodes: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add the states before the last byte of each block; return (S, blocks) states and the new codes."""
        kinds, code = unique_rows(blocks)
        S = len(nodes)
        targets = nodes[:, kinds]  # (S, kinds, 64)
        live = np.any(targets >= 0, axis=-1)
        rows = np.full((int(live.sum()), 256), -1, np.int32)
        rows[:, 0x80:0xC0] = targets[live]
        found = np.full((S, len(kinds) + 1), -1, np.int32)
        found[:, :-1][live] = self._add(rows)
        return found, code

    def _escapes(self) -> None:
        """Add the escape of each character that needs one."""
        S = len(self.accepts)
        tree: dict[str, np.ndarray] = {"": np.arange(S, dtype=np.int32)}
        for code in self.escaped:
            text = json.dumps(chr(code))[1:-1]
            for size in range(1, len(text)):
                if text[:size] not in tree:
                    tree[text[:size]] = self._add(np.full((S, 256), -1, np.int32))
                    self._edge(tree[text[: size - 1]], text[size - 1], tree[text[:size]])
            self._edge(tree[text[:-1]], text[-1], self.after[:, self.classes[code]])

    def _edge(self, sources: np.ndarray, character: str, targets: np.ndarray) -> None:
        at = 0
        for part in self.parts:
            mine = (sources >= at) & (sources < at + len(part))
            part[sources[mine] - at, ord(character)] = targets[mine]
            at += len(part)
