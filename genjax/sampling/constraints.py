"""Constrain decoding: every sample matches a regular expression, a JSON schema or a list of words.

An automaton over bytes (genjax.languages) and the bytes of each token give tables over tokens (Willard &
Louf 2023, arXiv:2307.09702): state x token -> state, and the fewest tokens from each state to an accepting
one. Each draw is masked to the tokens after which an accepting state can still be reached in the remaining
length, so every sample matches in full. The tables are small: tokens that lead to the same state from every
state share a column (50,000 tokens need a few hundred columns), and only existing transitions are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.languages import automata, regexes
from genjax.languages.automata import Automaton
from genjax.languages.operations import spaced
from genjax.sampling.logits import Seen, Truncation

NEVER = 2**30
"""The distance of states from which no accepting state can be reached."""
BLOCK = 512
"""States whose tables are computed together."""


@struct.dataclass
class Constraint:
    """Hold an automaton over tokens. It is an argument of compiled functions: equal shapes share a program.

    With stop tokens, a row may draw one in accepting states, and nothing else ends a row early. Without stop
    tokens, a row in an accepting state ends with the probability that the model gives to all tokens that
    would leave the language. A row always ends in an accepting state without successors.

    Attributes:
      column: of each token, in [0, G).
      first: index of each state's first edge; the edges of state s are first[s] to first[s + 1].
      label: the column of each edge.
      target: the state that each edge leads to.
      distance: the fewest tokens from each state to an accepting one.
      last: accepting states without successors.
      fewest: distance of the start state; static, so that too short a length is refused before compilation.
      width: the largest number of edges of a state; static.
      columns: G; static.
    """

    column: Int[Array, " V"]
    first: Int[Array, " S+1"]
    label: Int[Array, " E"]
    target: Int[Array, " E"]
    distance: Int[Array, " S"]
    last: Bool[Array, " S"]
    fewest: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)
    columns: int = struct.field(pytree_node=False)

    def begin(self, num: int) -> Int[Array, " num"]:
        """Return the start state of `num` rows."""
        return jnp.zeros((num,), jnp.int32)

    def complete(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Return whether the text is accepted and nothing can follow."""
        return self.last[state]

    def follow(self, state: Int[Array, " B"], token: Int[Array, " B"]) -> Int[Array, " B"]:
        """Return the state after an allowed token; any other token leaves the state unchanged."""
        label, target = self._edges(state)
        mine = label == self.column[jnp.minimum(token, self.column.shape[0] - 1)][:, None]
        after = jnp.where(mine, target, -1).max(axis=-1)
        return jnp.where(after < 0, state, after)

    def _edges(self, state: Int[Array, " B"]) -> tuple[Int[Array, "B E"], Int[Array, "B E"]]:
        """Return (labels, targets) of the edges of each state, padded with label G."""
        at = self.first[state][:, None] + jnp.arange(self.width)[None]
        real = at < self.first[state + 1][:, None]
        at = jnp.minimum(at, self.label.shape[0] - 1)
        return jnp.where(real, self.label[at], self.columns), self.target[at]

    def allowed(self, state: Int[Array, " B"], left: Int[Array, " B"], vocabulary: int) -> Bool[Array, "B V"]:
        """Return the tokens after which at most `left` more tokens reach an accepting state.

        Raises:
          ConfigError: the constraint knows more tokens than the model.
        """
        known = self.column.shape[0]
        if known > vocabulary:
            raise ConfigError(
                f"a constraint over {known} tokens for a model of {vocabulary}",
                "compile it with the bytes of the model's own tokens",
            )
        label, target = self._edges(state)
        near = self.distance[target] <= left[:, None]
        possible = jnp.zeros((state.shape[0], self.columns), bool)
        possible = possible.at[jnp.arange(state.shape[0])[:, None], label].set(near, mode="drop")
        return jnp.pad(possible[:, self.column], ((0, 0), (0, vocabulary - known)))

    def mask(
        self,
        scores: Float[Array, "B V"],
        state: Int[Array, " B"],
        left: Int[Array, " B"],
        stops: tuple[int, ...] = (),
        *,
        total: bool = True,
    ) -> Float[Array, "B V"]:
        """Return `scores` with -inf on tokens that must not be drawn.

        Without stop tokens the result has one more column, V, which ends the row. Its score is that of all
        tokens outside the language together.

        Args:
          left: number of tokens that may follow this one.
          stops: the stop tokens.
          total: combine the scores outside the language by their log-sum-exp; False takes their maximum.
        """
        V = scores.shape[-1]
        allowed = self.allowed(state, left, V)
        accepted = self.distance[state] == 0
        if stops:
            stop = jnp.stack([jnp.arange(V) == s for s in stops]).any(axis=0)
            allowed = jnp.where(stop[None], accepted[:, None], allowed)
        else:
            outside = jnp.where(allowed, -jnp.inf, scores)
            end = (jax.nn.logsumexp if total else jnp.max)(outside, axis=-1)
            scores = jnp.concatenate([scores, end[:, None]], axis=-1)
            allowed = jnp.concatenate([allowed, accepted[:, None]], axis=-1)
        # A row that has ended may allow nothing; what it draws is not used, but must be a number.
        return jnp.where(allowed | ~allowed.any(axis=-1, keepdims=True), scores, -jnp.inf)

    def draw(
        self,
        keys: Keys,
        logits: Float[Array, "B V"],
        state: Int[Array, " B"],
        left: Int[Array, " B"],
        policy: Truncation,
        seen: Seen | None = None,
        stops: tuple[int, ...] = (),
    ) -> tuple[Int[Array, " B"], Float[Array, " B"], Bool[Array, " B"]]:
        """Return (tokens, log-probabilities, True where the row ends without a token); see `mask`."""
        # The sum of scores over the temperature becomes their maximum as the temperature goes to 0.
        scores = policy.scores(logits, seen)
        scores = self.mask(scores, state, left, stops, total=policy.temperature > 0)
        token, log_prob = policy.choose(keys, policy.narrow(scores))
        return token, log_prob, token == logits.shape[-1]


def regex(pattern: str, token_bytes: Sequence[bytes], *, spaces: str | None = "kept") -> Constraint:
    """Return the constraint that samples match `pattern` in full, as `re.fullmatch` does.

    Args:
      token_bytes: the bytes that each token adds to the text; b"" for tokens without text.
      spaces: how the text differs from the joined bytes: see `compile`.

    Raises:
      ConfigError: no finite automaton expresses the pattern, or these tokens cannot write any match.
    """
    return compile(regexes.regex(pattern), token_bytes, f"the regular expression {pattern!r}", spaces=spaces)


def words(choices: Iterable[str], token_bytes: Sequence[bytes], *, spaces: str | None = "kept") -> Constraint:
    """Return the constraint that samples are one of these words.

    Raises:
      ConfigError: there are no words, or these tokens can write none of them.
    """
    return compile(automata.words(choices), token_bytes, "the list of words", spaces=spaces)


def json_schema(
    schema: str | bool | Mapping[str, Any],
    token_bytes: Sequence[bytes],
    *,
    whitespace: str | None = None,
    spaces: str | None = "kept",
) -> Constraint:
    """Return the constraint that samples are JSON that a validator of the schema accepts.

    Not all such JSON: docs/guides/constraints.md says which values are drawn.

    Args:
      schema: as JSON or as its value.
      whitespace: a regular expression of the whitespace between elements; None for at most one space.

    Raises:
      ConfigError: the schema is not valid, uses what is not supported, or accepts nothing.
    """
    from genjax.languages import schema as schemas

    value = schemas.parse(schema) if isinstance(schema, str) else schema
    return compile(schemas.automaton(value, whitespace), token_bytes, "the JSON schema", spaces=spaces)


def compile(
    automaton: Automaton,
    token_bytes: Sequence[bytes],
    name: str = "the constraint",
    *,
    spaces: str | None = "kept",
) -> Constraint:
    """Compute the tables over tokens of an automaton over bytes.

    Args:
      name: of the constraint, for the error message.
      spaces: how the text differs from the joined bytes of its tokens. "kept": not at all. "start": a space
        at its beginning is left out, also after a prompt; tokens with another space are never drawn. "lines":
        so is a space after a newline. None: in ways that no constraint can follow.

    Raises:
      ConfigError: these tokens cannot write any string of the language, or `spaces` is None.
    """
    if spaces is None:
        raise ConfigError(
            f"{name}: the text of this tokenizer's tokens depends on their neighbours",
            "use a run with bytes, chars, words, or a tokenizer of bytes or Metaspace",
        )
    if spaces != "kept":
        automaton = spaced(automaton, lines=spaces == "lines")
        token_bytes = [b"" if b" " in token[1:] else token for token in token_bytes]
    edges, column = _edges(automaton, token_bytes)
    distance = _distances(edges, automaton.accepts)
    if distance[0] >= NEVER:
        raise ConfigError(
            f"{name} accepts nothing that can be written in these {len(token_bytes)} tokens",
            "loosen the constraint, or use a tokenizer that has its characters",
        )
    edges = edges.of(distance[edges.target] < NEVER)
    keep = _reachable(edges, len(distance))
    edges = edges.of(keep[edges.source])
    number = np.cumsum(keep) - 1
    # All columns without an edge become one, the last.
    labels, label = np.unique(edges.label, return_inverse=True)
    spare = np.searchsorted(labels, column)
    known = np.isin(column, labels)
    first = np.searchsorted(number[edges.source], np.arange(keep.sum() + 1))
    degree = np.diff(first)
    return Constraint(
        jnp.asarray(np.where(known, spare, len(labels)), jnp.int32),
        jnp.asarray(first, jnp.int32),
        jnp.asarray(np.append(label, len(labels) + 1), jnp.int32),
        jnp.asarray(np.append(number[edges.target], 0), jnp.int32),
        jnp.asarray(distance[keep], jnp.int32),
        jnp.asarray((distance[keep] == 0) & (degree == 0)),
        fewest=int(distance[0]),
        width=max(1, int(degree.max())),
        columns=len(labels) + 1,
    )


class _Edges(NamedTuple):
    """Hold the edges of an automaton over columns of tokens, sorted by their source."""

    source: np.ndarray
    label: np.ndarray
    target: np.ndarray

    def of(self, kept: np.ndarray) -> _Edges:
        """Return some of the edges."""
        return _Edges(*(x[kept] for x in self))


def _edges(automaton: Automaton, token_bytes: Sequence[bytes]) -> tuple[_Edges, np.ndarray]:
    """Return (the edges, the column of each token), computed for blocks of states."""
    S = len(automaton.step)
    sizes = np.array([len(t) for t in token_bytes])
    text = np.zeros((len(token_bytes), max(1, sizes.max(initial=0))), np.uint8)
    for row, token in zip(text, token_bytes, strict=True):
        row[: len(token)] = np.frombuffer(token, np.uint8)
    step = np.concatenate([automaton.step, np.full((1, 256), -1, np.int32)])  # row -1: no way out
    letters, letter = _unique(step.T)  # bytes that no state distinguishes become one letter
    parts = []
    column = np.zeros(len(token_bytes), np.int64)
    for low in range(0, S, BLOCK):
        block = np.arange(low, min(low + BLOCK, S), dtype=np.int32)
        columns, mine = _walk(letters, letter, block, text, sizes)
        live = np.nonzero(columns >= 0)
        parts.append((mine, live, columns[live], columns.shape))
        column = np.unique(column * len(columns) + mine, return_inverse=True)[1]
    example = np.unique(column, return_index=True)[1]
    found = []
    for low, (mine, live, targets, shape) in zip(range(0, S, BLOCK), parts, strict=True):
        columns = np.full(shape, -1, np.int32)
        columns[live] = targets
        table = columns[mine[example]].T
        source, label = np.nonzero(table >= 0)
        found.append((source + low, label, table[source, label]))
    return _Edges(*(np.concatenate(x) for x in zip(*found, strict=True))), column


def _walk(
    letters: np.ndarray, letter: np.ndarray, states: np.ndarray, text: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (the table columns x states -> state, the column of each token).

    All tokens are read byte by byte from all states at once. Prefixes that lead to the same state from every
    state are merged, so that few of them are followed however many tokens there are.

    Args:
      letters: (letters, S + 1): the state after a letter.
      letter: of each byte.
      text: (V, bytes), padded.
      sizes: (V,) the bytes of each token.
    """
    found = [np.full((1, len(states)), -1, np.int32)]
    column = np.zeros(len(text), np.int64)
    here = states[None]
    rows = np.zeros(len(text), np.int64)
    count = 1
    alive = np.flatnonzero(sizes > 0)  # an empty token leads nowhere
    for depth in range(text.shape[1]):
        step = rows[alive] * len(letters) + letter[text[alive, depth]]
        pair, inverse = np.unique(step, return_inverse=True)
        here, merged = _unique(letters[(pair % len(letters)).reshape(-1, 1), here[pair // len(letters)]])
        rows[alive] = merged[inverse]
        ends = alive[sizes[alive] == depth + 1]
        column[ends] = count + rows[ends]
        found.append(here)
        count += len(here)
        live = np.any(here >= 0, axis=1)
        alive = alive[(sizes[alive] > depth + 1) & live[rows[alive]]]
        if not len(alive):
            break
    columns, merged = _unique(np.concatenate(found))
    return columns, merged[column]


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (the distinct rows, the index of each row among them), comparing 64-bit hashes of the rows."""
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) | np.uint64(1)
    sums = rows.astype(np.uint64) @ factors
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first][inverse], rows):
        return np.unique(rows, axis=0, return_inverse=True)  # two rows share a hash
    return rows[first], inverse


def _distances(edges: _Edges, accepts: np.ndarray) -> np.ndarray:
    """Compute the fewest tokens from each state to an accepting one: breadth first, against the edges."""
    S = len(accepts)
    pairs = np.unique(edges.target.astype(np.int64) * S + edges.source)
    source = pairs % S
    starts = np.searchsorted(pairs // S, np.arange(S + 1))
    distance = np.full(S, NEVER)
    distance[accepts] = 0
    front = np.flatnonzero(accepts)
    steps = 0
    while len(front):
        steps += 1
        before = np.unique(np.concatenate([source[starts[s] : starts[s + 1]] for s in front]))
        front = before[distance[before] == NEVER]
        distance[front] = steps
    return distance


def _reachable(edges: _Edges, states: int) -> np.ndarray:
    """Return a mask of the states that can be reached from state 0, itself included."""
    starts = np.searchsorted(edges.source, np.arange(states + 1))
    seen = np.zeros(states, bool)
    seen[0] = True
    front = np.array([0])
    while len(front):
        reached = np.unique(np.concatenate([edges.target[starts[s] : starts[s + 1]] for s in front]))
        front = reached[~seen[reached]]
        seen[front] = True
    return seen
