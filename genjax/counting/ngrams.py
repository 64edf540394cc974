"""Estimate smoothed n-grams of any order from one sort of the text; only n-grams that occur are stored.

The n-grams form a tree: a node of depth k is a k-gram that occurs, and its parent is the first k - 1 symbols.
Nodes of one depth are in lexicographic order, so the children of a node are adjacent and sorted by token.
Symbols are the tokens [0, V) and V, the symbol before a document (KenLM's <s>), which is never predicted.

Every smoothing has the interpolated form (Chen & Goodman 1998, equation 14)

    p_k(w | c) = gain(c w) + mass(c) p_{k-1}(w | c without its first symbol),    p_0 = 1 / V,

and p_k = p_{k-1} if nothing followed c. It is normalised because the gains after c and mass(c) sum to one.
`build` lists the gains and masses of each smoothing, with their sources.
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
"""Discounts of an order whose counts of counts do not determine them (KenLM's --discount_fallback)."""


@struct.dataclass
class Level:
    """Hold the k-grams that occur, padded to a static number.

    Attributes:
      token: int32: the last symbol of each; at depth 1 the index of the node itself.
      gain: float32: amount that the k-gram adds to the probability of its token.
      mass: float32: weight of the shorter context after it; 1 if nothing followed it.
      begin: int32, N + 1: the children of node i are nodes [begin[i], begin[i + 1]) of the next depth.
    """

    token: Int[Array, " N"]
    gain: Float[Array, " N"]
    mass: Float[Array, " N"]
    begin: Int[Array, " N+1"]


@struct.dataclass
class Index:
    """Hold a smoothed model, ready for counting/lookup.py.

    Attributes:
      levels: depth 1 (V + 1 nodes, one per symbol) to n.
      mass: of the empty context.
      discounts: n x 3: D1, D2, D3+ of every order for Kneser-Ney; else 0.
      sizes: int32, n: number of distinct k-grams.
    """

    levels: tuple[Level, ...]
    mass: Float[Array, ""]
    discounts: Float[Array, "n 3"]
    sizes: Int[Array, " n"]


def build(text: Stream, order: int, levels: int, smoothing: Smoothing, strength: float) -> Index:
    """Count and smooth the n-grams of a text.

    With n(c w) the count of w after c, n(c) its sum over w and types(c) the number of distinct w:

    kneser_ney: interpolated modified Kneser-Ney (Chen & Goodman 1998, section 3): gain = (n(c w) - D) / n(c),
      with D1, D2, D3+ from the counts of counts of each order. Below order n, n(c w) is the number of
      distinct symbols before c w; after the start of a document it is the plain count.
    witten_bell: gain = n(c w) / (n(c) + types(c)) (Witten & Bell 1991, method C, interpolated).
    backoff: gain = n(c w) / (n(c) + strength): a Dirichlet prior on the shorter context (MacKay & Peto 1995).
    additive: gain = n(c w) / (n(c) + strength V) for the longest context; shorter contexts are not used.

    Args:
      order: n.
      levels: V.
    """
    g = grams(text, levels)
    tree = _tree(g, order, levels)
    counts = _counts(text, g, tree, levels, continued=smoothing == "kneser_ney")
    gains = []
    masses = []
    discounts = []
    for k, a in enumerate(counts, 1):
        parent = jnp.zeros_like(a) if k == 1 else tree[k - 1].parent
        size = 1 if k == 1 else len(counts[k - 2])
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
    """Hold the nodes of one depth.

    Attributes:
      token: the last symbol of each node.
      parent: its node of the depth before.
      begin: see `Level`.
      slot: a slot of the text where the k-gram occurs.
      count: number of its occurrences.
      node: of every slot; the number of nodes if the slot reaches less deep.
    """

    token: Int[Array, " N"]
    parent: Int[Array, " N"]
    begin: Int[Array, " N+1"]
    slot: Int[Array, " N"]
    count: Int[Array, " N"]
    node: Int[Array, " M"]


def _sorted_slots(g: Grams, order: int, levels: int) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
    """Return (slots sorted by their first `order` symbols, symbols that each shares with its predecessor)."""
    slots = jnp.arange(len(g.first), dtype=jnp.int32)
    bits = (levels + 1).bit_length()
    fit = max(31 // bits, 1)
    keys = []
    for first in range(0, order, fit):
        # As many symbols as fit are packed into one int32 key.
        packed = jnp.zeros_like(slots)
        for depth in range(first, min(first + fit, order)):
            packed = packed << bits | (g.at(slots, depth) + 1)
        keys.append(packed)
    # Equal keys are equal sequences, whose order does not matter: an unstable sort is enough.
    *_, slots = jax.lax.sort((*keys, slots), num_keys=len(keys), is_stable=False)
    shared = jnp.zeros_like(slots)
    same = jnp.arange(len(slots)) > 0
    for depth in range(order):
        symbol = g.at(slots, depth)
        same = same & (symbol >= 0) & (symbol == jnp.roll(symbol, 1))
        shared = shared + same
    # Without the barrier XLA would compute both again at every use.
    return jax.lax.optimization_barrier((slots, shared))


def _tree(g: Grams, order: int, levels: int) -> list[_Depth]:
    """Return the nodes of depths 1 to `order`."""
    slots, shared = _sorted_slots(g, order, levels)
    M = len(slots)
    V = levels
    reach = g.reach[slots]
    # The node of the previous depth of each sorted slot, and the number of such nodes.
    above = jnp.where(reach > 0, g.first[slots], V + 1)
    size = V + 1
    tokens = jnp.arange(V + 1, dtype=jnp.int32)
    depths = [_Depth(tokens, tokens, tokens, tokens, tokens, jnp.where(g.reach > 0, g.first, V + 1))]
    for k in range(2, order + 1):
        valid = reach >= k
        new = valid & (shared < k)
        here = cumulative(new.astype(jnp.int32)) - 1
        capacity = min(M, (V + 1) * V ** (k - 1))
        at = jnp.where(new, here, capacity)
        here = jnp.where(valid, here, capacity)
        put = lambda x, at=at, n=capacity: jnp.full((n,), -1, jnp.int32).at[at].set(x, mode="drop")
        count = jnp.zeros((capacity,), jnp.int32).at[here].add(1, mode="drop")
        children = jnp.zeros((size + 1,), jnp.int32).at[jnp.where(new, above, size)].add(1)
        begin = cumulative(children) - children
        depths[-1] = dataclasses.replace(depths[-1], begin=begin)
        node = jnp.zeros((M,), jnp.int32).at[slots].set(here)
        depths.append(_Depth(put(g.at(slots, k - 1)), put(above), jnp.zeros(()), put(slots), count, node))
        above = here
        size = capacity
    depths[-1] = dataclasses.replace(depths[-1], begin=jnp.zeros((size + 1,), jnp.int32))
    return depths


def _counts(text: Stream, g: Grams, tree: list[_Depth], levels: int, continued: bool) -> list[jax.Array]:
    """Return the counts of each order: plain ones, or below the highest order those of continuations."""
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
        # The last k symbols of a (k+1)-gram are the k-gram one slot later in the text.
        rest = text.symbols if k == 1 else t.node
        end = jnp.where(longer.slot >= 0, rest[jnp.maximum(longer.slot, 0) + 1], len(count))
        different = jnp.zeros_like(count).at[end].add(1, mode="drop")
        opening = jnp.zeros((), bool) if k == 1 else (t.slot >= 0) & (g.first[t.slot] == levels)
        out.append(jnp.where(opening, count, different))
    return out


# --- smoothing -----------------------------------------------------------------------------------------


def discounts(counts: Int[Array, " N"]) -> Float[Array, " 3"]:
    """Compute D1, D2, D3+ from counts of counts (Chen & Goodman 1998, equation 26).

    As in KenLM, all three are FALLBACK if one of the counts 1, 2, 3 does not occur, or if a discount is
    negative or larger than its count.
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
    """Return (gain of each k-gram, mass of each of the `size` contexts, discounts of this order)."""
    seen = counts > 0
    parent = jnp.where(seen, parent, size)

    def summed(x: jax.Array) -> Float[Array, " S"]:
        # Integers: float32 sums of ones stop growing at 2^24.
        return jnp.zeros((size,), jnp.int32).at[parent].add(x, mode="drop").astype(jnp.float32)

    total = summed(counts)
    off = jnp.zeros(counts.shape)
    none = jnp.zeros((3,))
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
