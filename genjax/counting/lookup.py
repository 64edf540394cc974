"""Look up a sorted n-gram model (counting/ngrams.py): contexts, probabilities, full distributions.

The context of a text is the tree nodes of its last 1, 2 ... n - 1 symbols, one per depth; -1 for symbols that
were never seen together. Reading a token replaces each node by its child of that token, found by binary
search. The node of depth k after a token depends only on the node of depth k - 1 before it, so all tokens of
a text are read at once, depth by depth.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax.counting.ngrams import Index, Level

CHUNK = 256
"""Children of a node that are added to a distribution at once."""


def unknown(order: int, num: int) -> Int[Array, "num n-1"]:
    """Return the empty context of `num` texts."""
    return jnp.full((num, order - 1), -1, jnp.int32)


def search(
    token: Int[Array, " N"], low: Int[Array, "*S"], high: Int[Array, "*S"], value: Int[Array, "*S"], most: int
) -> Int[Array, "*S"]:
    """Return the first index in [low, high) where the ascending `token` is at least `value`; else high.

    Args:
      most: an upper bound of high - low.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = (token[jnp.minimum(middle, len(token) - 1)] < value) & (low < high)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, max(most, 1).bit_length(), halve, (low, high))[0]


def child(index: Index, depth: int, node: Int[Array, "*S"], token: Int[Array, "*S"]) -> Int[Array, "*S"]:
    """Return the child (of depth + 1) of a node by a token; -1 without such a child."""
    here = index.levels[depth - 1]
    below = index.levels[depth]
    at = jnp.maximum(node, 0)
    low = here.begin[at]
    high = here.begin[at + 1]
    found = search(below.token, low, high, token, len(index.levels[0].token))
    hit = (found < high) & (below.token[jnp.minimum(found, len(below.token) - 1)] == token)
    return jnp.where((node >= 0) & hit, found, -1)


def read(
    index: Index,
    before: Int[Array, "B n-1"],
    tokens: Int[Array, "B T"],
    fresh: Bool[Array, "B T"] | None = None,
    end: int | None = None,
) -> tuple[Int[Array, "B T n-1"], Int[Array, "B T n"]]:
    """Read tokens.

    Args:
      before: the context of each row.
      tokens: in [0, V]; V is the symbol before a document, which forgets the context.
      fresh: True on tokens that begin a document.
      end: a token after which a document begins.

    Returns:
      (the context after each token; the n-grams that each token completes: the node of each depth k that ends
      with it, -1 if it was never seen).
    """
    start = len(index.levels[0].token) - 1
    places = []
    grams = []
    shifted = jnp.zeros(tokens.shape, jnp.int32)
    for depth in range(len(index.levels)):
        if depth > 0 and fresh is not None:
            shifted = jnp.where(fresh, start if depth == 1 else -1, shifted)
        found = child(index, depth, shifted, tokens) if depth else tokens
        grams.append(found)
        if depth + 1 == len(index.levels):
            break
        place = found
        if end is not None:
            place = jnp.where(tokens == end, start if depth == 0 else -1, place)
        places.append(place)
        shifted = jnp.concatenate([before[:, depth, None], place[:, :-1]], axis=1)
    empty = jnp.zeros((*tokens.shape, 0), jnp.int32)
    return jnp.stack(places, -1) if places else empty, jnp.stack(grams, -1)


def _mass(level: Level, node: Int[Array, "*S"]) -> Float[Array, "*S"]:
    """Return the weight of the shorter context after a node; 1 after an unseen one."""
    return jnp.where(node >= 0, level.mass[jnp.maximum(node, 0)], 1)


def probability(
    index: Index, places: Int[Array, "*S n-1"], grams: Int[Array, "*S n"], levels: int
) -> Float[Array, "*S"]:
    """Compute p(token | context) from the context before the token and the n-grams that the token completes.

    p_k = gain + mass p_{k-1}, from p_0 = 1 / V (see counting/ngrams.py).
    """
    p = jnp.full(grams.shape[:-1], 1.0 / levels)
    for depth, level in enumerate(index.levels):
        gram = grams[..., depth]
        mass = index.mass if depth == 0 else _mass(index.levels[depth - 1], places[..., depth - 1])
        p = jnp.where(gram >= 0, level.gain[jnp.maximum(gram, 0)], 0) + mass * p
    return p


def distribution(index: Index, places: Int[Array, "*S n-1"], levels: int) -> Float[Array, "*S V"]:
    """Compute the probability of every token after a context."""
    shape = places.shape[:-1]
    # Not -1: a model of order 1 has no places, and an empty array has no inferred size.
    places = places.reshape(math.prod(shape), places.shape[-1])
    p = jnp.broadcast_to(index.levels[0].gain[:levels] + index.mass / levels, (places.shape[0], levels))
    for depth in range(1, len(index.levels)):
        here = index.levels[depth - 1]
        below = index.levels[depth]
        node = places[:, depth - 1]
        at = jnp.maximum(node, 0)
        low = here.begin[at]
        high = jnp.where(node >= 0, here.begin[at + 1], low)
        p = _add(_mass(here, node)[:, None] * p, below, low, high)
    return p.reshape(*shape, levels)


def _add(p: Float[Array, "N V"], level: Level, low: Int[Array, " N"], high: Int[Array, " N"]) -> jax.Array:
    """Add the gains of nodes [low, high) to p at their tokens, a chunk at a time."""
    width = min(CHUNK, p.shape[1])
    row = jnp.arange(p.shape[0])[:, None]

    def add(state):
        p, low = state
        at = low[:, None] + jnp.arange(width)[None]
        inside = at < high[:, None]
        at = jnp.minimum(at, len(level.token) - 1)
        token = jnp.where(inside, level.token[at], p.shape[1])
        return p.at[row, token].add(level.gain[at], mode="drop"), low + width

    if width == p.shape[1]:
        return add((p, low))[0]
    return jax.lax.while_loop(lambda state: jnp.any(state[1] < high), add, (p, low))[0]
