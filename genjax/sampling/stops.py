"""End a row where its text contains a stop, wherever the boundaries of its tokens are.

The stops are searched in the bytes that the tokens add to the text (Aho & Corasick 1975). A table gives the
state after each token: how much of a stop the text ends with. A token may hold a stop with other text around
it, a stop may run over several tokens, and a character may be split over tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from genjax.errors import ConfigError

FEW = 8
"""Stops that so few tokens complete, whatever came before, are a set of stop tokens."""
LONGEST = 256
"""Bytes of all stops together."""
NONE = 256
"""In the place of a byte: no byte."""


@struct.dataclass
class StopText:
    """Hold the states of a search. It is an argument of compiled functions: equal shapes share a program.

    Only drawn tokens count: a stop that begins in the prompt does not end a row.

    Attributes:
      column: of each token, in [0, G): tokens with the same effect share a column.
      after: the state after a token; S once the text contains a stop.
      first: the state before the first draw.
    """

    column: Int[Array, " V"]
    after: Int[Array, "S G"]
    first: Int[Array, ""]

    def begin(self, num: int) -> Int[Array, " num"]:
        """Return the state of `num` rows before their first draw."""
        return jnp.broadcast_to(self.first, (num,))

    def follow(self, state: Int[Array, " B"], token: Int[Array, " B"]) -> Int[Array, " B"]:
        """Return the state after a token; a token without known text leaves it unchanged."""
        known = self.column.shape[0]
        at = jnp.minimum(state, self.after.shape[0] - 1)
        moved = self.after[at, self.column[jnp.minimum(token, known - 1)]]
        return jnp.where(self.hit(state) | (token >= known), state, moved)

    def hit(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Return whether the text contains a stop."""
        return state >= self.after.shape[0]

    def completes(self, state: Int[Array, " B"], vocabulary: int) -> Bool[Array, "B V"]:
        """Return the tokens after which the text contains a stop."""
        rows = self.after[jnp.minimum(state, self.after.shape[0] - 1)]
        ends = (rows >= self.after.shape[0])[:, self.column][:, :vocabulary]
        return jnp.pad(ends, ((0, 0), (0, vocabulary - ends.shape[1])))


def stop(
    texts: str | Sequence[str],
    within: Sequence[bytes],
    opening: Sequence[bytes] | None = None,
    breaks: Collection[int] = (),
    *,
    fresh: bool = False,
) -> StopText | tuple[int, ...]:
    """Return what ends a row where its text contains one of `texts`: a search, or tokens if these suffice.

    Args:
      texts: one stop or several.
      within: the bytes that each token adds to the text; b"" for tokens without text.
      opening: those that it adds at the beginning of a text and after a token of `breaks`; as `within` if
        None.
      fresh: the first token that is drawn is such a token.

    Raises:
      ConfigError: a stop is empty or no Unicode text, or they have more than LONGEST bytes.
    """
    wanted = _bytes([texts] if isinstance(texts, str) else texts)
    table = _transitions(wanted)
    after = _after(table, within)
    first = 0
    if opening is not None and list(opening) != list(within):
        # A second copy of the states, for texts to which the next token adds its opening bytes.
        after = _doubled(after, _after(table, opening), within, breaks)
        first = len(after) // 2 if fresh else 0
    ends = after[_reached(after, first)] == len(after)
    if (ends == ends[:1]).all() and ends[0].sum() <= FEW:
        return tuple(int(t) for t in np.flatnonzero(ends[0]))
    columns, column = np.unique(after, axis=1, return_inverse=True)
    return StopText(
        jnp.asarray(column.reshape(-1), jnp.int32),
        jnp.asarray(columns, jnp.int32),
        jnp.asarray(first, jnp.int32),
    )


def _bytes(texts: Sequence[str]) -> list[bytes]:
    """Return the bytes of each stop."""
    try:
        wanted = [text.encode() for text in texts]
    except UnicodeEncodeError:
        raise ConfigError(f"the stops {texts!r} are not Unicode text", "leave out lone surrogates") from None
    if not wanted or not all(wanted) or sum(map(len, wanted)) > LONGEST:
        raise ConfigError(
            f"{len(wanted)} stops of {[len(w) for w in wanted]} bytes",
            f"give stops of at least one byte, and at most {LONGEST} bytes in all",
        )
    return wanted


def _transitions(wanted: Sequence[bytes]) -> np.ndarray:
    """Return the state (S + 1 x 257) after each byte; S is final, and byte NONE changes nothing.

    A state is a beginning of a stop that the text ends with, the longest; state 0 is the empty one.
    """
    prefixes = {w[:n] for w in wanted for n in range(len(w) + 1)}
    # A beginning that contains a whole stop is never a state: the text has ended before.
    kept = sorted((p for p in prefixes if not any(w in p for w in wanted)), key=lambda p: (len(p), p))
    number = {prefix: i for i, prefix in enumerate(kept)}
    table = np.zeros((len(kept) + 1, 257), np.int32)
    for prefix, i in number.items():
        back = number[next(prefix[n:] for n in range(1, len(prefix) + 1) if prefix[n:] in number)] if i else 0
        table[i] = table[back]
        for byte in {w[len(prefix)] for w in wanted if w.startswith(prefix)}:
            table[i, byte] = number.get(prefix + bytes([byte]), len(kept))
    table[len(kept)] = len(kept)
    table[:, NONE] = np.arange(len(kept) + 1)
    return table


def _after(table: np.ndarray, pieces: Sequence[bytes]) -> np.ndarray:
    """Return the state (S x V) after each token, from each state but the final one."""
    width = max(map(len, pieces), default=0)
    padded = np.full((len(pieces), width), NONE, np.int32)
    for i, piece in enumerate(pieces):
        padded[i, : len(piece)] = list(piece)
    state = np.tile(np.arange(len(table) - 1, dtype=np.int32)[:, None], (1, len(pieces)))
    for at in range(width):
        state = table[state, padded[None, :, at]]
    return state


def _doubled(
    within: np.ndarray, opening: np.ndarray, pieces: Sequence[bytes], breaks: Collection[int]
) -> np.ndarray:
    """Return the states (2 S x V) of texts that go on, then of those at an opening; 2 S is final."""
    size = len(within)
    token = np.arange(len(pieces))
    opens = np.isin(token, list(breaks))
    silent = np.array([not piece for piece in pieces])
    both = []
    for after, stays in ((within, opens), (opening, opens | silent)):
        both.append(np.where(after == size, 2 * size, after + size * stays[None].astype(np.int32)))
    return np.concatenate(both).astype(np.int32)


def _reached(after: np.ndarray, first: int) -> np.ndarray:
    """Return the states in which a row can be, the final one excluded."""
    found = {first}
    new = [first]
    while new:
        reached = {int(s) for s in np.unique(after[new]) if s < len(after)}
        new = sorted(reached - found)
        found |= reached
    return np.array(sorted(found))
