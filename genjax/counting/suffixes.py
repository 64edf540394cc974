"""Build a suffix array (Manber & Myers 1993) and look up contexts of any length in it.

The array lists the slots of a text in the order of the sequences that begin there. A context is an interval
of the array: the slots where it occurs. Within the interval the continuations are sorted, so reading another
token takes two binary searches, and the length of the new interval is the number of times that the token
followed the context.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.counting.corpus import Grams, cumulative


@struct.dataclass
class Suffixes:
    """Hold a sorted text. Sequences end with their document, and sort before longer ones that begin alike.

    Attributes:
      slots: int32, M: the slots in the order of the sequences that begin there.
      group: int32, M: index after the last sequence that is equal to this one.
      begin: int32, V + 2: sequences with first symbol v are slots[begin[v]:begin[v + 1]].
      text: the sequences of the slots.
    """

    slots: Int[Array, " M"]
    group: Int[Array, " M"]
    begin: Int[Array, " V+2"]
    text: Grams


def build(g: Grams, levels: int) -> Suffixes:
    """Sort all sequences of a text by prefix doubling: log2(longest repeated sequence) sorts."""
    M = len(g.first)
    place = jnp.arange(M, dtype=jnp.int32)
    rank = _tail_ranks(g, levels)
    after = jnp.minimum(place + 1, M - 1)
    first = jnp.where(g.reach > 0, g.first, levels + 1)
    then = jnp.where(g.reach > 1, rank[after], 0)
    first, then, slots = jax.lax.sort((first, then, place), num_keys=2, is_stable=False)
    new = _differs(first) | _differs(then)
    number = cumulative(new.astype(jnp.int32))
    ends = jnp.zeros((M + 1,), jnp.int32).at[number].max(place + 1)
    sizes = jnp.zeros((levels + 2,), jnp.int32).at[first].add(1)
    begin = jnp.cumsum(sizes, dtype=jnp.int32) - sizes
    return Suffixes(slots, ends[number], begin, g)


def _differs(x: Int[Array, " M"]) -> Bool[Array, " M"]:
    """Return True for elements that differ from the previous one."""
    return jnp.concatenate([jnp.zeros((1,), bool), x[1:] != x[:-1]])


def _tail_ranks(g: Grams, levels: int) -> Int[Array, " M"]:
    """Return the rank, from 1, of the text from each slot to its document's end; equal texts share it."""
    M = len(g.first)
    place = jnp.arange(M, dtype=jnp.int32)
    # The tail at p follows the first symbol of the sequence at p - 1.
    reach = jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.maximum(g.reach[:-1] - 1, 0)])
    bits = levels.bit_length()
    fit = max(31 // bits, 1)
    packed = jnp.zeros((M,), jnp.int32)
    for depth in range(fit):
        symbol = g.symbols[jnp.minimum(place + depth, M - 1)] + 1
        packed = packed << bits | jnp.where(depth < reach, symbol, 0)
    longest = reach.max()

    def double(state):
        rank, span, _, classes = state
        then = jnp.where(span < reach, rank[jnp.minimum(place + span, M - 1)], 0)
        a, b, slots = jax.lax.sort((rank, then, place), num_keys=2, is_stable=False)
        order = cumulative((_differs(a) | _differs(b)).astype(jnp.int32))
        return jnp.zeros((M,), jnp.int32).at[slots].set(order + 1), span * 2, classes, order[-1]

    def unsettled(state):
        _, span, before, classes = state
        return (span < longest) & (before != classes)

    # Stop when a doubling separates no further sequences: then no later one does.
    start = (packed, jnp.int32(fit), jnp.int32(-2), jnp.int32(-1))
    return jax.lax.while_loop(unsettled, double, start)[0]


@struct.dataclass
class Match:
    """Hold the intervals of the last 1, 2 ... K tokens of a text; empty if these do not occur.

    Attributes:
      low, high: int32, ... x K: the occurrences that something follows.
    """

    low: Int[Array, "*S K"]
    high: Int[Array, "*S K"]

    @property
    def count(self) -> Int[Array, "*S K"]:
        """The number of times that each context was followed by a token."""
        return self.high - self.low


def nothing(num: int, longest: int) -> Match:
    """Return empty intervals."""
    return Match(*(jnp.zeros((num, longest), jnp.int32) for _ in range(2)))


def bound(
    s: Suffixes, low: jax.Array, high: jax.Array, depth: jax.Array, value: jax.Array
) -> Int[Array, "*S"]:
    """Return the first index in [low, high) whose symbol at `depth` is at least `value`; else high."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        slot = s.slots[jnp.minimum(middle, len(s.slots) - 1)]
        below = (s.text.at(slot, depth) < value) & (low < high)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    shape = jnp.broadcast_shapes(low.shape, high.shape, depth.shape, value.shape)
    bounds = jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape)
    return jax.lax.fori_loop(0, len(s.slots).bit_length(), halve, bounds)[0]


def extend(s: Suffixes, match: Match, token: Int[Array, " B"]) -> tuple[Match, Int[Array, "B K"]]:
    """Read a token of each row.

    Returns:
      (the contexts that end with it, the number of times that it followed each of the previous contexts).
    """
    depth = jnp.arange(1, match.low.shape[1] + 1)[None]
    value = token[:, None]
    both = jnp.stack([value, value + 1])
    low, high = bound(s, match.low[None], match.high[None], depth[None], both)
    seen = high - low
    first = s.begin[token][:, None], s.begin[token + 1][:, None]
    low = jnp.concatenate([first[0], low[:, :-1]], axis=1)
    high = jnp.concatenate([first[1], high[:, :-1]], axis=1)
    return Match(_followed(s, low, high, depth), high), seen


def _followed(s: Suffixes, low: jax.Array, high: jax.Array, depth: jax.Array) -> jax.Array:
    """Move `low` past the occurrences at the end of a document: they sort first, and nothing follows them."""
    at = jnp.minimum(low, len(s.slots) - 1)
    ended = (s.text.reach[s.slots[at]] == depth) & (low < high)
    return jnp.where(ended, s.group[at], low)


def opening(s: Suffixes, like: Match) -> Match:
    """Return the context at the beginning of a document: only the symbol V before it."""
    start = len(s.begin) - 2
    low, high = (jnp.zeros_like(like.low).at[..., 0].set(s.begin[v]) for v in (start, start + 1))
    return Match(low, high)


def choose(which: Bool[Array, " B"], yes: Match, no: Match) -> Match:
    """Return `yes` in the chosen rows and `no` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(which[:, None], a, b), yes, no)


def followers(
    s: Suffixes, low: Int[Array, " N"], high: Int[Array, " N"], depth: Int[Array, " N"], levels: int
) -> Float[Array, "N V"]:
    """Count how often each token followed each of N contexts.

    Each iteration counts one distinct token per context, so the loop runs as often as the largest number of
    distinct followers.

    Args:
      low, high: the interval of each context.
      depth: its length.
    """
    row = jnp.arange(len(low))

    def add(state):
        counts, low = state
        token = s.text.at(s.slots[jnp.minimum(low, len(s.slots) - 1)], depth)
        above = bound(s, low, high, depth, token + 1)
        where = jnp.where(low < high, token, levels)
        return counts.at[row, where].add(above - low, mode="drop"), above

    counts = jnp.zeros((len(low), levels), jnp.int32)
    counts, _ = jax.lax.while_loop(lambda state: jnp.any(state[1] < high), add, (counts, low))
    return counts.astype(jnp.float32)
