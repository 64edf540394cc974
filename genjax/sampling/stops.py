"""End a row where its text contains a stop, wherever the boundaries of its tokens are.

The stop is searched in the bytes that the tokens add to the text (Knuth, Morris & Pratt 1977). A table gives
the state after each token: how many bytes of the stop the text ends with. A token may hold the stop with
other text around it, the stop may run over several tokens, and a character may be split over tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from genjax.errors import ConfigError

FEW = 8
"""A stop that so few tokens complete, whatever came before, is a set of stop tokens."""
LONGEST = 256
"""Bytes of a stop."""


@struct.dataclass
class StopText:
    """Hold a stop of S bytes. It is an argument of compiled functions: equal shapes share a program.

    Only drawn tokens count: a stop that begins in the prompt does not end a row.

    Attributes:
      column: of each token, in [0, G): tokens with the same effect share a column.
      after: the state after a token; S once the text contains the stop.
    """

    column: Int[Array, " V"]
    after: Int[Array, "S G"]

    def begin(self, num: int) -> Int[Array, " num"]:
        """Return the state of `num` rows before their first draw."""
        return jnp.zeros((num,), jnp.int32)

    def follow(self, state: Int[Array, " B"], token: Int[Array, " B"]) -> Int[Array, " B"]:
        """Return the state after a token; a token without known text leaves it unchanged."""
        known = self.column.shape[0]
        at = jnp.minimum(state, self.after.shape[0] - 1)
        moved = self.after[at, self.column[jnp.minimum(token, known - 1)]]
        return jnp.where(self.hit(state) | (token >= known), state, moved)

    def hit(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Return whether the text contains the stop."""
        return state >= self.after.shape[0]

    def completes(self, state: Int[Array, " B"], vocabulary: int) -> Bool[Array, "B V"]:
        """Return the tokens after which the text contains the stop."""
        rows = self.after[jnp.minimum(state, self.after.shape[0] - 1)]
        ends = (rows >= self.after.shape[0])[:, self.column][:, :vocabulary]
        return jnp.pad(ends, ((0, 0), (0, vocabulary - ends.shape[1])))


def stop(text: str, token_bytes: Sequence[bytes]) -> StopText | tuple[int, ...]:
    """Return what ends a row where its text contains `text`: an automaton, or stop tokens if these suffice.

    Args:
      token_bytes: the bytes that each token adds to the text; b"" for tokens without text.

    Raises:
      ConfigError: the stop is empty, longer than LONGEST bytes, or not Unicode text.
    """
    wanted = _bytes(text)
    after = _after(wanted, token_bytes)
    reached = _reached(after)
    ends = after[reached] == len(wanted)
    if (ends == ends[:1]).all() and ends[0].sum() <= FEW:
        return tuple(int(t) for t in np.flatnonzero(ends[0]))
    columns, column = np.unique(after, axis=1, return_inverse=True)
    return StopText(jnp.asarray(column.reshape(-1), jnp.int32), jnp.asarray(columns, jnp.int32))


def _bytes(text: str) -> bytes:
    try:
        wanted = text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the stop {text!r} is not Unicode text", "leave out lone surrogates") from None
    if not 0 < len(wanted) <= LONGEST:
        raise ConfigError(f"a stop of {len(wanted)} bytes", f"give 1 to {LONGEST}")
    return wanted


def _transitions(wanted: bytes) -> np.ndarray:
    """Return the state (S + 1 x 257) after each byte; S is final, and byte 256 (none) changes nothing."""
    size = len(wanted)
    table = np.zeros((size + 1, 257), np.int32)
    back = 0
    for state, byte in enumerate(wanted):
        table[state] = table[back] if state else 0
        table[state, byte] = state + 1
        back = table[back, byte] if state else 0
    table[size] = size
    table[:, 256] = np.arange(size + 1)
    return table


def _after(wanted: bytes, token_bytes: Sequence[bytes]) -> np.ndarray:
    """Return the state (S x V) after each token, from each state but the final one."""
    table = _transitions(wanted)
    width = max(map(len, token_bytes), default=0)
    pieces = np.full((len(token_bytes), width), 256, np.int32)
    for i, piece in enumerate(token_bytes):
        pieces[i, : len(piece)] = list(piece)
    state = np.tile(np.arange(len(wanted), dtype=np.int32)[:, None], (1, len(token_bytes)))
    for at in range(width):
        state = table[state, pieces[None, :, at]]
    return state


def _reached(after: np.ndarray) -> np.ndarray:
    """Return the states in which a row can be, the final one excluded."""
    found = {0}
    new = [0]
    while new:
        reached = {int(s) for s in np.unique(after[new]) if s < len(after)}
        new = sorted(reached - found)
        found |= reached
    return np.array(sorted(found))
