"""Looking up a sorted n-gram model: where a text stands in the tree, probabilities, full distributions.

Where a text stands is the nodes of its last 1, 2 ... n - 1 symbols, one a depth, -1 where they were never
seen together. Reading a token moves every one of them to its child, one binary search a depth; so a text is
read depth by depth, all its tokens at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax.counting.ngrams import Index, Level

CHUNK = 256
"""How many children of a node are added to a distribution at once."""


def unknown(order: int, num: int) -> Int[Array, "num n-1"]:
    """Where a text stands of which nothing is known."""
    return jnp.full((num, order - 1), -1, jnp.int32)


def search(
    token: Int[Array, " N"], low: Int[Array, "*S"], high: Int[Array, "*S"], value: Int[Array, "*S"], most: int
) -> Int[Array, "*S"]:
    """The first place in [low, high) where `token` (rising there) is not below `value`; high where none is.

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
    """The node of `depth` + 1 that a node of `depth` reaches by a token; -1 where there is none."""
    here, below = index.levels[depth - 1], index.levels[depth]
    at = jnp.maximum(node, 0)
    low, high = here.begin[at], here.begin[at + 1]
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
    """Reads tokens.

    Args:
      before: where each row stands.
      tokens: of [0, V]; V is the beginning of a document: what was before it is forgotten.
      fresh: True on tokens that begin a document.
      end: a token after which a document begins.

    Returns:
      (where the text stands after each token, the n-grams that each token completes: the node of depth k that
      ends in it, -1 where that was never seen).
    """
    start = len(index.levels[0].token) - 1
    places, grams = [], []
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
    return jnp.where(node >= 0, level.mass[jnp.maximum(node, 0)], 1)


def probability(
    index: Index, places: Int[Array, "*S n-1"], grams: Int[Array, "*S n"], levels: int
) -> Float[Array, "*S"]:
    """p(token | where the text stood before it), of the n-grams that the token completes."""
    p = jnp.full(grams.shape[:-1], 1.0 / levels)
    for depth, level in enumerate(index.levels):
        gram = grams[..., depth]
        mass = index.mass if depth == 0 else _mass(index.levels[depth - 1], places[..., depth - 1])
        p = jnp.where(gram >= 0, level.gain[jnp.maximum(gram, 0)], 0) + mass * p
    return p


def distribution(index: Index, places: Int[Array, "*S n-1"], levels: int) -> Float[Array, "*S V"]:
    """The probability of every token from where a text stands."""
    shape = places.shape[:-1]
    places = places.reshape(-1, places.shape[-1])
    p = jnp.broadcast_to(index.levels[0].gain[:levels] + index.mass / levels, (places.shape[0], levels))
    for depth in range(1, len(index.levels)):
        here, below, node = index.levels[depth - 1], index.levels[depth], places[:, depth - 1]
        at = jnp.maximum(node, 0)
        low, high = here.begin[at], jnp.where(node >= 0, here.begin[at + 1], here.begin[at])
        p = _add(_mass(here, node)[:, None] * p, below, low, high)
    return p.reshape(*shape, levels)


def _add(p: Float[Array, "N V"], level: Level, low: Int[Array, " N"], high: Int[Array, " N"]) -> jax.Array:
    """p with the gains of nodes [low, high) added at their tokens, a chunk at a time."""
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
