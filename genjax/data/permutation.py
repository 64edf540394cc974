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


def _keys(seed: int, epoch: int) -> np.ndarray:
    """One uint64 key per round."""
    word = np.array([seed & (2**64 - 1)], np.uint64)
    word = _mix(word + np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(epoch)
    return _mix(_mix(word) + np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def permute(n: int, seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """Where a permutation of range(n), one for each (seed, epoch), sends `positions`: int64."""
    a = max(int(np.ceil(np.sqrt(n))), 1)
    b = -(-n // a)
    keys, out = _keys(seed, epoch), np.asarray(positions).astype(np.uint64)
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
    return out.astype(np.int64)


@functools.lru_cache(maxsize=8)
def _table(n: int, seed: int, epoch: int) -> np.ndarray:
    return permute(n, seed, epoch, np.arange(n))


def shuffled(n: int, seed: int, positions: np.ndarray) -> np.ndarray:
    """The rows at these positions (int64, ascending) of an endless run of epochs.

    Each epoch is n positions and has every row of range(n) exactly once, in an order of its own.
    """
    first, last = int(positions[0]) // n, int(positions[-1]) // n
    out = np.empty(positions.shape, np.int64)
    for epoch in range(first, last + 1):
        here = slice(*np.searchsorted(positions, (epoch * n, (epoch + 1) * n)))
        offsets = positions[here] - epoch * n
        out[here] = _table(n, seed, epoch)[offsets] if n <= _TABLE else permute(n, seed, epoch, offsets)
    return out
