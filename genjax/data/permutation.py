"""Random permutations that are pure functions of (seed, epoch, position), the same on every machine.

numpy's generators may change their streams between versions, and a stored permutation costs memory for
every epoch that is kept; a Feistel network costs neither (Black and Rogaway 2002, "Ciphers with arbitrary
finite domains", the generalised Feistel method over Z_a x Z_b with cycle walking).
"""

from __future__ import annotations

import functools

import numpy as np

_ROUNDS = 6
_TABLE = 1 << 22
"""Up to this many rows an epoch's permutation is tabulated once: a batch is then one gather."""
_BLOCK = 1 << 14
"""Short epochs are tabulated together, about this many rows at a time."""


def _mix(x: np.ndarray) -> np.ndarray:
    """A 64-bit finaliser (SplitMix64, Steele et al. 2014): uint64 -> uint64, a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _add(x: np.ndarray, word: np.ndarray, modulus: int) -> np.ndarray:
    """(x + a uniform number in [0, modulus) made of the word) mod modulus; modulus < 2^32."""
    m = np.uint64(modulus)
    x = x + (((word >> np.uint64(32)) * m) >> np.uint64(32))
    return np.where(x >= m, x - m, x)


def _keys(seed: int, epochs: np.ndarray) -> np.ndarray:
    """One uint64 key per round and epoch: (rounds, epochs)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    words = _mix(np.array([seed & (2**64 - 1)], np.uint64) + golden) ^ epochs.astype(np.uint64)
    return _mix(_mix(words) + np.arange(1, _ROUNDS + 1, dtype=np.uint64)[:, None] * golden)


def permute(n: int, seed: int, epoch: int | np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Where a permutation of range(n), one for each (seed, epoch), sends `positions`: int64.

    Args:
      epoch: of all the positions, or of each.
    """
    a = max(int(np.ceil(np.sqrt(n))), 1)
    b = -(-n // a)
    out = np.asarray(positions).astype(np.uint64)
    keys = _keys(seed, np.atleast_1d(epoch))
    left, right = np.divmod(out, np.uint64(b))
    walk = np.arange(out.size)
    # The network permutes [0, a*b), a little more than [0, n): walk on from where it left the range.
    while walk.size:
        for r in range(0, _ROUNDS, 2):
            left = _add(left, _mix(right ^ keys[r]), a)
            right = _add(right, _mix(left ^ keys[r + 1]), b)
        out[walk] = left * np.uint64(b) + right
        outside = out[walk] >= np.uint64(n)
        walk, left, right = walk[outside], left[outside], right[outside]
        keys = keys[:, outside] if keys.shape[1] > 1 else keys
    return out.astype(np.int64)


@functools.lru_cache(maxsize=8)
def _table(n: int, seed: int, block: int, epochs: int) -> np.ndarray:
    """The permutations of this many epochs, from block * epochs on: (epochs * n)."""
    epoch = block * epochs + np.arange(epochs)
    return permute(n, seed, np.repeat(epoch, n), np.tile(np.arange(n), epochs))


def shuffled(n: int, seed: int, positions: np.ndarray) -> np.ndarray:
    """The rows at these positions (int64, ascending) of an endless run of epochs.

    Each epoch is n positions and has every row of range(n) exactly once, in an order of its own.
    """
    if n > _TABLE:
        return permute(n, seed, positions // n, positions % n)
    # Several small epochs at once: numpy's cost for a call is then shared by more rows.
    epochs = max(_BLOCK // n, 1)
    size = epochs * n
    first, last = int(positions[0]) // size, int(positions[-1]) // size
    if first == last:
        return _table(n, seed, first, epochs)[positions - first * size]
    out = np.empty(positions.shape, np.int64)
    for block in range(first, last + 1):
        here = slice(*np.searchsorted(positions, (block * size, (block + 1) * size)))
        out[here] = _table(n, seed, block, epochs)[positions[here] - block * size]
    return out
