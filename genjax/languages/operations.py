"""Combine automata: union, intersection, difference, and chains of automata with bytes between them.

Every result is minimal: it has no state that cannot be reached or leads nowhere, and no two equal ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix, csgraph

from genjax.languages.automata import NOTHING, STATES, Automaton, TooLarge

Accept = Callable[[np.ndarray, np.ndarray], np.ndarray]


def union(automata: Iterable[Automaton]) -> Automaton:
    """Return the strings that at least one automaton accepts."""
    found = list(dict.fromkeys(a for a in automata if not a.empty))
    if len(found) < 2:
        return found[0] if found else NOTHING
    sketch = Sketch()
    start = sketch.state()
    end = sketch.state()
    for automaton in found:
        sketch.chain(start, automaton, end)
    return sketch.automaton(start, [end])


def both(a: Automaton, b: Automaton) -> Automaton:
    """Return the strings that both accept."""
    if a is b or a.empty:
        return a
    return b if b.empty else _product(a, b, np.logical_and)


def without(a: Automaton, b: Automaton) -> Automaton:
    """Return the strings that `a` accepts and `b` does not."""
    if a is b:
        return NOTHING
    return a if a.empty or b.empty else _product(a, b, lambda x, y: x & ~y)


def joined(*automata: Automaton) -> Automaton:
    """Return the strings made of one string of each, in this order."""
    sketch = Sketch()
    at = sketch.state()
    start = at
    for automaton in automata:
        after = sketch.state()
        sketch.chain(at, automaton, after)
        at = after
    return sketch.automaton(start, [at])


def spaced(automaton: Automaton, *, lines: bool) -> Automaton:
    """Return the strings that an automaton accepts once a space at their beginning is left out.

    Args:
      lines: a space after a newline is left out, too.
    """
    step = automaton.step
    S = len(step)
    # States S to 2S are those at a beginning.
    after = step.copy()
    if lines:
        after[:, 0x0A] = np.where(step[:, 0x0A] < 0, -1, step[:, 0x0A] + S)
    begins = after.copy()
    begins[:, 0x20] = np.arange(S)
    both_ways = np.concatenate([after, begins])
    accepts = np.concatenate([automaton.accepts, automaton.accepts])
    # The start is the first state.
    order = np.roll(np.arange(2 * S), S)
    number = np.append(order, -1)
    return minimal(Automaton(number[both_ways[order]].astype(np.int32), accepts))


def listed(automaton: Automaton, most: int) -> list[bytes] | None:
    """Return all strings of a minimal automaton, shortest first; None if there are more than `most`."""
    found: list[bytes] = []
    front = [(0, b"")]
    # Every state leads to a string: more prefixes of one length than `most` mean more strings.
    for _ in range(len(automaton.step) + 1):
        found += [text for state, text in front if automaton.accepts[state]]
        front = [
            (int(automaton.step[state, byte]), text + bytes([byte]))
            for state, text in front
            for byte in np.flatnonzero(automaton.step[state] >= 0)
        ]
        if len(found) > most or len(front) > most:
            return None
        if not front:
            return found
    return None


def minimal(automaton: Automaton) -> Automaton:
    """Return the minimal automaton of the same language: Moore's refinement of a partition."""
    distance = _distances(automaton)
    keep = np.isfinite(distance) & _reached(automaton)
    if not keep[0]:
        return NOTHING
    number = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
    step = number[automaton.step[keep]]
    S = len(step)
    columns = step[:, _letters(step)[0]]
    columns = np.where(columns < 0, S, columns)
    # Equal states are equally far from an accepting one.
    group = np.unique(distance[keep], return_inverse=True)[1]
    count = -1
    factors = _factors(columns.shape[1] + 1)
    while count < (count := int(group.max()) + 1):
        around = np.append(group, S)[columns].astype(np.uint64)
        sums = around @ factors[1:] + group.astype(np.uint64) * factors[0]
        group = np.unique(sums, return_inverse=True)[1]
    first = np.unique(group, return_index=True)[1]
    first.sort()  # the start is the first of its group
    rank = np.empty(len(first), np.int64)
    rank[group[first]] = np.arange(len(first))
    merged = np.append(rank[group], -1)
    return Automaton(merged[step[first]].astype(np.int32), automaton.accepts[keep][first])


class Sketch:
    """Draw an automaton that need not be deterministic; `automaton` makes it so.

    States are numbers. An edge may read a byte, or nothing.
    """

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._size = 0
        self._free: dict[int, set[int]] = {}

    def state(self) -> int:
        """Add a state."""
        return self._add(np.full((1, 256), -1, np.int32))

    def link(self, source: int, target: int) -> None:
        """Add an edge that reads nothing."""
        self._free.setdefault(source, set()).add(target)

    def chain(self, source: int, automaton: Automaton, target: int) -> None:
        """Add a copy of an automaton: its strings lead from `source` to `target`."""
        at = self._add(automaton.step)
        self.link(source, at)
        for state in np.flatnonzero(automaton.accepts):
            self.link(at + int(state), target)

    def _add(self, step: np.ndarray) -> int:
        at = self._size
        self._rows.append(np.where(step < 0, -1, step + at).astype(np.int32))
        self._size += len(step)
        if self._size > 4 * STATES:
            raise TooLarge
        return at

    def automaton(self, start: int, ends: Sequence[int]) -> Automaton:
        """Return the minimal automaton of the strings that lead from `start` to one of `ends`.

        Raises:
          TooLarge: it needs too many states.
        """
        step = np.concatenate(self._rows)
        first, letter = _letters(step)
        edges = _edges(step[:, first])
        final = set(ends)
        # Others only lead on without reading.
        useful = {state for state, found in enumerate(edges) if found} | final
        closure = functools.cache(lambda state: frozenset(self._closure(state) & useful))
        number: dict[frozenset[int], int] = {}
        order: list[frozenset[int]] = []

        def find(states: Iterable[int]) -> int:
            key = frozenset().union(*map(closure, states))
            if key not in number:
                number[key] = len(order)
                order.append(key)
                if len(order) > STATES:
                    raise TooLarge
            return number[key]

        find([start])
        alone = functools.cache(lambda target: find([target]))
        rows = []
        for states in order:
            if len(states) == 1:
                rows.append({label: alone(target) for label, target in edges[next(iter(states))]})
                continue
            targets: dict[int, set[int]] = {}
            for state in states:
                for label, target in edges[state]:
                    targets.setdefault(label, set()).add(target)
            rows.append({label: find(found) for label, found in targets.items()})
        table = np.full((len(order), len(first)), -1, np.int32)
        for row, found in zip(table, rows, strict=True):
            row[list(found)] = list(found.values())
        accepts = np.array([not final.isdisjoint(states) for states in order])
        return minimal(Automaton(table[:, letter], accepts))

    def _closure(self, state: int) -> set[int]:
        """Return the states that `state` reaches without reading."""
        found = {state}
        front = [state]
        while front:
            new = self._free.get(front.pop(), set()) - found
            found |= new
            front += new
        return found


def _edges(table: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the (letter, target) pairs of each row of a table over letters."""
    out: list[list[tuple[int, int]]] = [[] for _ in table]
    source, label = np.nonzero(table >= 0)
    for s, a, t in zip(source.tolist(), label.tolist(), table[source, label].tolist(), strict=True):
        out[s].append((a, t))
    return out


def _product(a: Automaton, b: Automaton, accept: Accept) -> Automaton:
    """Run two automata side by side; `accept` combines their answers, and needs that of the first."""
    first, letter = _letters(np.concatenate([a.step, b.step]))
    dead = np.full((1, len(first)), -1, np.int32)
    ours = np.concatenate([a.step[:, first], dead])
    theirs = np.concatenate([b.step[:, first], dead])
    width = len(theirs)
    # A pair is a number; -1 in a component is its last row.
    needs_theirs = not accept(np.array([True]), np.array([False]))[0]
    number: dict[int, int] = {0: 0}
    front = np.zeros(1, np.int64)
    parts = []
    pairs = [front]
    while len(front):
        i, j = ours[front // width], theirs[front % width]
        codes = (i % len(ours)).astype(np.int64) * width + j % width
        codes[(i < 0) | (j < 0) & needs_theirs] = -1
        found, inverse = np.unique(codes, return_inverse=True)
        new = [c for c in found.tolist() if c >= 0 and c not in number]
        number.update(zip(new, range(len(number), len(number) + len(new)), strict=True))
        if len(number) > STATES:
            raise TooLarge
        numbers = np.array([number.get(c, -1) for c in found.tolist()], np.int32)
        parts.append(numbers[inverse].reshape(codes.shape))
        front = np.array(new, np.int64)
        pairs.append(front)
    table = np.concatenate(parts)
    pair = np.concatenate(pairs)
    mine = np.append(a.accepts, False)[pair // width]
    other = np.append(b.accepts, False)[pair % width]
    return minimal(Automaton(table[:, letter], accept(mine, other)))


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (the distinct rows, the index of each row among them), comparing 64-bit hashes of the rows."""
    sums = (rows.astype(np.int64) + 1).astype(np.uint64) @ _factors(rows.shape[1])
    _, first, index = np.unique(sums, return_index=True, return_inverse=True)
    return rows[first], index


def _letters(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (one byte of each letter, the letter of each byte): bytes that no state tells apart are one."""
    sums = (step.astype(np.int64) + 1).astype(np.uint64).T @ _factors(len(step))
    _, first, letter = np.unique(sums, return_index=True, return_inverse=True)
    return first, letter


@functools.lru_cache(maxsize=64)
def _factors(count: int) -> np.ndarray:
    """Return odd random numbers: sums of products with them are the same for equal rows only."""
    return np.random.default_rng(0).integers(1, 2**63, count, np.uint64) | np.uint64(1)


def _graph(automaton: Automaton) -> coo_matrix:
    step = automaton.step[:, _letters(automaton.step)[0]]
    source, label = np.nonzero(step >= 0)
    S = len(step)
    return coo_matrix((np.ones(len(source), bool), (source, step[source, label])), (S, S))


def _distances(automaton: Automaton) -> np.ndarray:
    """Return the fewest bytes from each state to an accepting one; infinity if there is none."""
    ends = np.flatnonzero(automaton.accepts)
    if not len(ends):
        return np.full(len(automaton.accepts), np.inf)
    backward = _graph(automaton).T.tocsr()
    return csgraph.dijkstra(backward, indices=ends, unweighted=True, min_only=True)


def _reached(automaton: Automaton) -> np.ndarray:
    """Return the mask of the states that the start reaches."""
    order = csgraph.breadth_first_order(_graph(automaton).tocsr(), 0, return_predecessors=False)
    mask = np.zeros(len(automaton.accepts), bool)
    mask[order] = True
    return mask
