"""Suffix arrays: every place of a text in the order of what follows it, and contexts of any length in it.

A context is an interval of the sorted array: the places where it stands. What followed it lies sorted within
the interval, so that reading one token more is two binary searches, and how often a token followed is the
length of the interval that it leads to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.counting.corpus import Grams, cumulative


@struct.dataclass
class Suffixes:
    """A sorted text. Sequences end where their document does, and sort before their continuations.

    Attributes:
      slots: int32, M: the places, by the order of the sequences that begin there.
      group: int32, M: where, in that order, the sequences that are wholly equal end.
      begin: int32, V + 2: sequences whose first symbol is v are slots[begin[v]:begin[v + 1]].
      text: what the slots refer to.
    """

    slots: Int[Array, " M"]
    group: Int[Array, " M"]
    begin: Int[Array, " V+2"]
    text: Grams


def build(g: Grams, levels: int) -> Suffixes:
    """Sorts all sequences of a text by doubling (Manber & Myers 1993): log2 of the longest repeat sorts."""
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
    return jnp.concatenate([jnp.zeros((1,), bool), x[1:] != x[:-1]])


def _tail_ranks(g: Grams, levels: int) -> Int[Array, " M"]:
    """The rank, from 1, of what stands from each slot to its document's end; equal where that is equal."""
    M = len(g.first)
    place = jnp.arange(M, dtype=jnp.int32)
    # A tail at p is what follows the first symbol of p - 1.
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

    # Equal at one doubling and the next: equal for ever.
    start = (packed, jnp.int32(fit), jnp.int32(-2), jnp.int32(-1))
    return jax.lax.while_loop(unsettled, double, start)[0]


@struct.dataclass
class Match:
    """Where the last 1, 2 ... K tokens of a text stand in the array: intervals, empty where they do not.

    Attributes:
      low, high: int32, ... x K: of the places where something follows.
    """

    low: Int[Array, "*S K"]
    high: Int[Array, "*S K"]

    @property
    def count(self) -> Int[Array, "*S K"]:
        """How often each was followed by a token."""
        return self.high - self.low


def nothing(num: int, longest: int) -> Match:
    """No context is known."""
    return Match(*(jnp.zeros((num, longest), jnp.int32) for _ in range(2)))


def bound(
    s: Suffixes, low: jax.Array, high: jax.Array, depth: jax.Array, value: jax.Array
) -> Int[Array, "*S"]:
    """The first of slots[low:high] whose symbol at `depth` is not below `value`; high where there is none."""

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
    """Reads a token of each row.

    Returns:
      (the contexts that end in it, how often it followed each of those before it).
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
    """`low` moved past the places where the document ends after these `depth` symbols: they come first."""
    at = jnp.minimum(low, len(s.slots) - 1)
    ended = (s.text.reach[s.slots[at]] == depth) & (low < high)
    return jnp.where(ended, s.group[at], low)


def opening(s: Suffixes, like: Match) -> Match:
    """The beginning of a document: the only context is what stands before it."""
    start = len(s.begin) - 2
    low, high = (jnp.zeros_like(like.low).at[..., 0].set(s.begin[v]) for v in (start, start + 1))
    return Match(low, high)


def choose(which: Bool[Array, " B"], yes: Match, no: Match) -> Match:
    """`yes` in some rows, `no` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(which[:, None], a, b), yes, no)


def followers(
    s: Suffixes, low: Int[Array, " N"], high: Int[Array, " N"], depth: Int[Array, " N"], levels: int
) -> Float[Array, "N V"]:
    """How often each token followed some contexts, given as intervals and their lengths.

    One token after another, each skipped to its end: as many turns as the most different tokens there are.
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
