"""Smoothed n-grams of any order, from one sort of the text: what was seen is all that is kept.

The n-grams form a tree: a node of depth k is a k-gram that was seen, its parent the first k - 1 symbols.
Nodes of one depth lie in lexicographic order, so that the children of a node are neighbours, sorted by their
token. Symbols are the tokens [0, V), and V for what stands before a document (KenLM's <s>), which is never
predicted.

Every smoothing here has the form  p_k(w | c) = gain(c w) + mass(c) p_{k-1}(w | c without its first symbol),
p_0 = 1 / V, and p_k = p_{k-1} where nothing followed c. It sums to one as gain and mass do.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.counting.corpus import Grams, Stream, cumulative, grams

Smoothing = Literal["additive", "backoff", "witten_bell", "kneser_ney"]
SMOOTHINGS: tuple[str, ...] = get_args(Smoothing)
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts of an order whose counts of counts give none (KenLM's --discount_fallback)."""


@struct.dataclass
class Level:
    """The k-grams that were seen, padded to a static number.

    Attributes:
      token: int32: the last symbol of each; of depth 1 the node's own number.
      gain: float32: what the k-gram adds to its token's probability.
      mass: float32: the weight of the shorter context after it; 1 where nothing followed it.
      begin: int32, one more: its children are nodes [begin[i], begin[i + 1]) of the next depth.
    """

    token: Int[Array, " N"]
    gain: Float[Array, " N"]
    mass: Float[Array, " N"]
    begin: Int[Array, " N+1"]


@struct.dataclass
class Index:
    """A smoothed model, ready to be looked up.

    Attributes:
      levels: depth 1 (V + 1 nodes, one a symbol) to n.
      mass: of the empty context.
      discounts: n x 3: D1, D2, D3+ of every order (Kneser-Ney; else 0).
      sizes: int32, n: how many different k-grams there are.
    """

    levels: tuple[Level, ...]
    mass: Float[Array, ""]
    discounts: Float[Array, "n 3"]
    sizes: Int[Array, " n"]


def build(text: Stream, order: int, levels: int, smoothing: Smoothing, strength: float) -> Index:
    """Counts and smooths the n-grams of a text.

    kneser_ney: interpolated modified Kneser-Ney (Chen & Goodman 1998): D1, D2, D3+ from the counts of counts
      of each order; below order n a count is how many different symbols came before, except after the start
      of a document, where it is the plain count.
    witten_bell: mass = types / (tokens + types) (Witten & Bell 1991, method C, interpolated).
    backoff: mass = strength / (tokens + strength), a Dirichlet prior on the shorter context.
    additive: `strength` is added to every count of the longest context; shorter ones are not used.

    Args:
      order: n.
      levels: V.
    """
    g = grams(text, levels)
    tree = _tree(g, order, levels)
    counts = _counts(text, g, tree, levels, continued=smoothing == "kneser_ney")
    gains, masses, discounts = [], [], []
    for k, a in enumerate(counts, 1):
        parent, size = (jnp.zeros_like(a), 1) if k == 1 else (tree[k - 1].parent, len(counts[k - 2]))
        gain, mass, discount = _smooth(a, parent, size, levels, smoothing, strength, k == order)
        gains.append(gain)
        masses.append(mass)
        discounts.append(discount)
    masses.append(jnp.ones_like(gains[-1]))
    sizes = jnp.stack([(a > 0).sum(dtype=jnp.int32) for a in counts])
    made = (
        Level(t.token, gain, mass, t.begin) for t, gain, mass in zip(tree, gains, masses[1:], strict=True)
    )
    return Index(tuple(made), masses[0][0], jnp.stack(discounts), sizes)


# --- the tree ------------------------------------------------------------------------------------------


@struct.dataclass
class _Depth:
    """Nodes of one depth: `slot` where each begins in the text (of the last one sorted), `count` how often,
    `node` of every slot (the number of nodes where it reaches less deep)."""

    token: Int[Array, " N"]
    parent: Int[Array, " N"]
    begin: Int[Array, " N+1"]
    slot: Int[Array, " N"]
    count: Int[Array, " N"]
    node: Int[Array, " M"]


def _sorted_slots(g: Grams, order: int, levels: int) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
    """(slots sorted by their first `order` symbols, how many of those each shares with the one before)."""
    slots = jnp.arange(len(g.first), dtype=jnp.int32)
    bits = (levels + 1).bit_length()
    fit = max(31 // bits, 1)
    keys = []
    for first in range(0, order, fit):
        packed = jnp.zeros_like(slots)
        for depth in range(first, min(first + fit, order)):
            packed = packed << bits | (g.at(slots, depth) + 1)
        keys.append(packed)
    # Equal keys are equal sequences: their order among themselves means nothing.
    *_, slots = jax.lax.sort((*keys, slots), num_keys=len(keys), is_stable=False)
    shared, same = jnp.zeros_like(slots), jnp.arange(len(slots)) > 0
    for depth in range(order):
        symbol = g.at(slots, depth)
        same = same & (symbol >= 0) & (symbol == jnp.roll(symbol, 1))
        shared = shared + same
    # Without the barrier every use of the two would compute them again.
    return jax.lax.optimization_barrier((slots, shared))


def _tree(g: Grams, order: int, levels: int) -> list[_Depth]:
    slots, shared = _sorted_slots(g, order, levels)
    M, V = len(slots), levels
    reach = g.reach[slots]
    above, size = (
        jnp.where(reach > 0, g.first[slots], V + 1),
        V + 1,
    )  # the node of depth 1 of each sorted slot
    tokens = jnp.arange(V + 1, dtype=jnp.int32)
    depths = [_Depth(tokens, tokens, tokens, tokens, tokens, jnp.where(g.reach > 0, g.first, V + 1))]
    for k in range(2, order + 1):
        valid = reach >= k
        new = valid & (shared < k)
        here = cumulative(new.astype(jnp.int32)) - 1
        capacity = min(M, (V + 1) * V ** (k - 1))
        here, at = jnp.where(valid, here, capacity), jnp.where(new, here, capacity)
        put = lambda x, at=at, n=capacity: jnp.full((n,), -1, jnp.int32).at[at].set(x, mode="drop")
        count = jnp.zeros((capacity,), jnp.int32).at[here].add(1, mode="drop")
        children = jnp.zeros((size + 1,), jnp.int32).at[jnp.where(new, above, size)].add(1)
        begin = cumulative(children) - children
        depths[-1] = dataclasses.replace(depths[-1], begin=begin)
        node = jnp.zeros((M,), jnp.int32).at[slots].set(here)
        depths.append(_Depth(put(g.at(slots, k - 1)), put(above), jnp.zeros(()), put(slots), count, node))
        above, size = here, capacity
    depths[-1] = dataclasses.replace(depths[-1], begin=jnp.zeros((size + 1,), jnp.int32))
    return depths


def _counts(text: Stream, g: Grams, tree: list[_Depth], levels: int, continued: bool) -> list[jax.Array]:
    """The counts that each order is estimated from: plain, or below the highest order of continuations."""
    place = jnp.arange(len(text.symbols))
    token = (place >= 1) & (place <= text.last)
    single = jnp.zeros((levels + 1,), jnp.int32).at[text.symbols].add(token.astype(jnp.int32))
    plain = [single, *(t.count for t in tree[1:])]
    if not continued:
        return plain
    out = []
    for k, (t, count) in enumerate(zip(tree, plain, strict=True), 1):
        if k == len(tree):
            out.append(count)
            continue
        longer = tree[k]
        # One step on in the text from a (k+1)-gram lies the k-gram that is its end.
        rest = text.symbols if k == 1 else t.node
        end = jnp.where(longer.slot >= 0, rest[jnp.maximum(longer.slot, 0) + 1], len(count))
        different = jnp.zeros_like(count).at[end].add(1, mode="drop")
        opening = jnp.zeros((), bool) if k == 1 else (t.slot >= 0) & (g.first[t.slot] == levels)
        out.append(jnp.where(opening, count, different))
    return out


# --- smoothing -----------------------------------------------------------------------------------------


def discounts(counts: Int[Array, " N"]) -> Float[Array, " 3"]:
    """D1, D2, D3+ from counts of counts (Chen & Goodman 1998, equation 26), or FALLBACK.

    As KenLM: the fallback is taken for all three where no count of 1, 2 or 3 was seen, or where a discount
    is below zero or above its count.
    """
    n = jnp.stack([(counts == j).sum().astype(jnp.float32) for j in range(1, 5)])
    j = jnp.arange(1.0, 4.0)
    ratio = n[0] / jnp.maximum(n[0] + 2 * n[1], 1)
    d = j - (j + 1) * ratio * n[1:] / jnp.maximum(n[:3], 1)
    good = jnp.all(n[:3] > 0) & jnp.all((d >= 0) & (d <= j))
    return jnp.where(good, d, jnp.array(FALLBACK))


def _smooth(
    counts: Int[Array, " N"],
    parent: Int[Array, " N"],
    size: int,
    levels: int,
    smoothing: Smoothing,
    strength: float,
    longest: bool,
) -> tuple[Float[Array, " N"], Float[Array, " S"], Float[Array, " 3"]]:
    """(gain of each k-gram, mass of each of the `size` contexts, discounts of this order)."""
    seen = counts > 0
    parent = jnp.where(seen, parent, size)

    def summed(x: jax.Array) -> Float[Array, " S"]:
        # As integers: sums of floats would stop growing at 2^24.
        return jnp.zeros((size,), jnp.int32).at[parent].add(x, mode="drop").astype(jnp.float32)

    total, off, none = summed(counts), jnp.zeros(counts.shape), jnp.zeros((3,))
    if smoothing == "kneser_ney":
        d = discounts(counts)
        kind = jnp.clip(counts, 1, 3)
        off = d[kind - 1]
        spare = sum(d[j - 1] * summed((seen & (kind == j)).astype(jnp.int32)) for j in (1, 2, 3))
        whole = total
    elif smoothing == "additive" and not longest:
        return jnp.zeros(counts.shape), jnp.ones((size,)), none
    else:
        d = none
        spare = {
            "additive": lambda: jnp.full((size,), strength * levels),
            "backoff": lambda: jnp.full((size,), strength),
            "witten_bell": lambda: summed(seen.astype(jnp.int32)),
        }[smoothing]()
        whole = total + spare
    gain = (counts - off) / whole[jnp.minimum(parent, size - 1)]
    return jnp.where(seen, gain, 0), jnp.where(total > 0, spare / jnp.maximum(whole, 1e-9), 1), d
