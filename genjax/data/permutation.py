"""Compute random permutations as pure functions of (seed, epoch, position), the same on every machine.

NumPy's generators may change their streams between versions, and a stored permutation costs memory for
every epoch. A Feistel network has neither drawback (Black and Rogaway 2002, "Ciphers with arbitrary finite
domains": the generalised Feistel method over Z_a x Z_b with cycle walking).
"""

from __future__ import annotations

import functools

import numpy as np

_ROUNDS = 6
_TABLE = 1 << 22
"""Up to this many rows, the permutation of an epoch is tabulated once, and a batch is one gather."""
_BLOCK = 1 << 14
"""Short epochs are tabulated together, about this many rows at a time."""


def mix(x: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 (Steele et al. 2014): a bijection on uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _add(x: np.ndarray, word: np.ndarray, modulus: int) -> np.ndarray:
    """Return (x + u) mod modulus with u in [0, modulus), derived from `word`; modulus < 2^32."""
    m = np.uint64(modulus)
    # The high 32 bits of word times m, shifted down: a uniform integer without a division (Lemire 2019).
    x = x + (((word >> np.uint64(32)) * m) >> np.uint64(32))
    return np.where(x >= m, x - m, x)


def _keys(seed: int, epochs: np.ndarray) -> np.ndarray:
    """Return one uint64 key for each round and epoch: (rounds, epochs)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    words = mix(np.array([seed & (2**64 - 1)], np.uint64) + golden) ^ epochs.astype(np.uint64)
    return mix(mix(words) + np.arange(1, _ROUNDS + 1, dtype=np.uint64)[:, None] * golden)


def permute(n: int, seed: int, epoch: int | np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Map `positions` by the permutation of range(n) that belongs to (seed, epoch): int64.

    Args:
      epoch: one for all positions, or one for each.
    """
    a = max(int(np.ceil(np.sqrt(n))), 1)
    b = -(-n // a)
    out = np.asarray(positions).astype(np.uint64)
    keys = _keys(seed, np.atleast_1d(epoch))
    left, right = np.divmod(out, np.uint64(b))
    walk = np.arange(out.size)
    # The network permutes [0, a*b), slightly more than [0, n). Cycle walking: apply it again to every value
    # outside of [0, n) until all are inside, which keeps the map a bijection.
    while walk.size:
        for r in range(0, _ROUNDS, 2):
            left = _add(left, mix(right ^ keys[r]), a)
            right = _add(right, mix(left ^ keys[r + 1]), b)
        out[walk] = left * np.uint64(b) + right
        outside = out[walk] >= np.uint64(n)
        walk = walk[outside]
        left = left[outside]
        right = right[outside]
        keys = keys[:, outside] if keys.shape[1] > 1 else keys
    return out.astype(np.int64)


@functools.lru_cache(maxsize=8)
def _table(n: int, seed: int, block: int, epochs: int) -> np.ndarray:
    """Return the permutations of `epochs` epochs, from number block * epochs: (epochs * n,)."""
    epoch = block * epochs + np.arange(epochs)
    return permute(n, seed, np.repeat(epoch, n), np.tile(np.arange(n), epochs))


def shuffled(n: int, seed: int, positions: np.ndarray) -> np.ndarray:
    """Return the rows at `positions` (int64, ascending) of an endless sequence of shuffled epochs.

    Each epoch has n positions and every row of range(n) exactly once, in its own order.
    """
    if n > _TABLE:
        return permute(n, seed, positions // n, positions % n)
    # Tabulate several short epochs at once, so that more rows share the overhead of a NumPy call.
    epochs = max(_BLOCK // n, 1)
    size = epochs * n
    first = int(positions[0]) // size
    last = int(positions[-1]) // size
    if first == last:
        return _table(n, seed, first, epochs)[positions - first * size]
    out = np.empty(positions.shape, np.int64)
    for block in range(first, last + 1):
        here = slice(*np.searchsorted(positions, (block * size, (block + 1) * size)))
        out[here] = _table(n, seed, block, epochs)[positions[here] - block * size]
    return out
