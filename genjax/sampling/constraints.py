"""Constrained decoding: what is drawn always matches a regular expression, a JSON schema or a list of words.

An automaton over bytes (sampling/automata.py) and the bytes that each token adds give tables over tokens
(Willard and Louf 2023, arXiv:2307.09702): state x token -> state, and the fewest tokens from each state to
an accepted end. The draw is masked to tokens from whose state the end can still be reached in the length that
is left, so that every sample matches in full. The tables are small: tokens that lead to the same state from
every state share a column (of 50,000 tokens a few hundred columns are left), and only what goes on is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.sampling import automata
from genjax.sampling.automata import Automaton
from genjax.sampling.logits import Seen, Truncation

NEVER = 2**30
"""The fewest tokens to an end from where there is none."""
BLOCK = 512
"""States whose tables are made together."""


@struct.dataclass
class Constraint:
    """An automaton over tokens: an argument of compiled functions, so that its like compiles nothing.

    Where stop tokens are given, they may be drawn in accepting states, and nothing else ends a row before
    its time. Where there are none, a row in an accepting state ends with the probability that the model
    gives to all tokens with which the text would leave the language. It also ends where nothing can follow.

    Attributes:
      column: of each token; G of them.
      first: where the edges of a state begin in the next two; those of state s end at first[s + 1].
      label: the column of an edge's tokens.
      target: the state that it leads to.
      distance: the fewest tokens from a state to an accepting one.
      last: an accepting state that nothing follows.
      fewest: distance from the start; static, so that an impossible length is refused before compilation.
      width: the most edges of a state; static.
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
        """The start state of `num` rows."""
        return jnp.zeros((num,), jnp.int32)

    def complete(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Whether the text is accepted and nothing can follow."""
        return self.last[state]

    def follow(self, state: Int[Array, " B"], token: Int[Array, " B"]) -> Int[Array, " B"]:
        """The state after an allowed token; the same one after any other."""
        label, target = self._edges(state)
        mine = label == self.column[jnp.minimum(token, self.column.shape[0] - 1)][:, None]
        after = jnp.where(mine, target, -1).max(axis=-1)
        return jnp.where(after < 0, state, after)

    def _edges(self, state: Int[Array, " B"]) -> tuple[Int[Array, "B E"], Int[Array, "B E"]]:
        """(labels, targets) of the edges of each state; label G fills up."""
        at = self.first[state][:, None] + jnp.arange(self.width)[None]
        real = at < self.first[state + 1][:, None]
        at = jnp.minimum(at, self.label.shape[0] - 1)
        return jnp.where(real, self.label[at], self.columns), self.target[at]

    def allowed(self, state: Int[Array, " B"], left: Int[Array, " B"], vocabulary: int) -> Bool[Array, "B V"]:
        """The tokens after which at most `left` more reach an accepted end.

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
        """`scores` with -inf on what may not be drawn.

        Without stop tokens there is one more column, V: to end here, whose score is that of all tokens
        outside the language together (`total`) or of the likeliest of them.

        Args:
          left: how many tokens may follow this one.
          stops: the stop tokens.
        """
        V = scores.shape[-1]
        allowed, accepted = self.allowed(state, left, V), self.distance[state] == 0
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
        """(tokens, log-probabilities, whether the row ends here without one); arguments as of `mask`."""
        # The sum of scores over the temperature becomes their maximum as the temperature goes to 0.
        scores = policy.scores(logits, seen)
        scores = self.mask(scores, state, left, stops, total=policy.temperature > 0)
        token, log_prob = policy.choose(keys, policy.narrow(scores))
        return token, log_prob, token == logits.shape[-1]


def regex(pattern: str, token_bytes: Sequence[bytes]) -> Constraint:
    """Samples match `pattern` in full (Python's syntax with re.ASCII; see `automata.regex`).

    Args:
      token_bytes: what each token adds to the text; b"" for tokens that stand for no text.

    Raises:
      ConfigError: the pattern is no automaton's, or no string of its language can be written in these tokens.
    """
    return compile(automata.regex(pattern), token_bytes, f"the regular expression {pattern!r}")


def words(choices: Iterable[str], token_bytes: Sequence[bytes]) -> Constraint:
    """Samples are one of these words. Raises ConfigError where none can be written in these tokens."""
    return compile(automata.words(choices), token_bytes, "the list of words")


def json_schema(
    schema: str | Mapping[str, Any], token_bytes: Sequence[bytes], *, whitespace: str | None = None
) -> Constraint:
    """Samples are JSON that fits a schema (as outlines-core turns it into a regular expression).

    Args:
      schema: as JSON or as a mapping.
      whitespace: a regular expression of what may stand between; None for at most one space.

    Raises:
      ConfigError: the schema is wrong or uses what no regular expression can do.
    """
    from outlines_core import json_schema as outlines

    text = schema if isinstance(schema, str) else json.dumps(schema)
    try:
        pattern = outlines.build_regex_from_schema(text, whitespace)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the JSON schema cannot be a regular expression: {error}", "see outlines-core for what it can"
        ) from error
    return compile(automata.regex(pattern), token_bytes, "the JSON schema")


def compile(automaton: Automaton, token_bytes: Sequence[bytes], name: str = "the constraint") -> Constraint:
    """Tables over tokens of an automaton over bytes.

    Raises:
      ConfigError: no string of its language can be written in these tokens; `name` says which.
    """
    edges, column = _edges(automaton, token_bytes)
    distance = _distances(edges, automaton.accepts)
    if distance[0] >= NEVER:
        raise ConfigError(
            f"{name} accepts nothing that can be written in these {len(token_bytes)} tokens",
            "loosen it, or give a tokenizer that has its characters",
        )
    edges = edges.of(distance[edges.target] < NEVER)
    keep = _reachable(edges, len(distance))
    edges, number = edges.of(keep[edges.source]), np.cumsum(keep) - 1
    # Columns without an edge are one.
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
    """Edges of an automaton over columns of tokens, in the order of their sources."""

    source: np.ndarray
    label: np.ndarray
    target: np.ndarray

    def of(self, kept: np.ndarray) -> _Edges:
        return _Edges(*(x[kept] for x in self))


def _edges(automaton: Automaton, token_bytes: Sequence[bytes]) -> tuple[_Edges, np.ndarray]:
    """(the edges, the column of each token), a block of states after another."""
    S = len(automaton.step)
    sizes = np.array([len(t) for t in token_bytes])
    text = np.zeros((len(token_bytes), max(1, sizes.max(initial=0))), np.uint8)
    for row, token in zip(text, token_bytes, strict=True):
        row[: len(token)] = np.frombuffer(token, np.uint8)
    step = np.concatenate([automaton.step, np.full((1, 256), -1, np.int32)])  # state -1 stays where it is
    letters, letter = _unique(step.T)  # bytes that no state tells apart are one letter
    parts, column = [], np.zeros(len(token_bytes), np.int64)
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
    """(columns x states -> state, the column of each token).

    All tokens are read at once, a byte after another, from all states at once; beginnings that lead from
    every state to the same are one from there on, so that few are followed however many tokens there are.

    Args:
      letters: (letters, S + 1): the state after a letter.
      letter: of each byte.
      text: (V, bytes), of which `sizes` are the tokens'.
    """
    found, column = [np.full((1, len(states)), -1, np.int32)], np.zeros(len(text), np.int64)
    here, rows, count = states[None], np.zeros(len(text), np.int64), 1
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
    """(the different rows, which of them each is), by 64-bit sums in place of comparisons of whole rows."""
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) | np.uint64(1)
    sums = rows.astype(np.uint64) @ factors
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first][inverse], rows):
        return np.unique(rows, axis=0, return_inverse=True)  # two sums met
    return rows[first], inverse


def _distances(edges: _Edges, accepts: np.ndarray) -> np.ndarray:
    """The fewest tokens from each state to an accepting one, breadth first against the edges."""
    S = len(accepts)
    pairs = np.unique(edges.target.astype(np.int64) * S + edges.source)
    source, starts = pairs % S, np.searchsorted(pairs // S, np.arange(S + 1))
    distance = np.full(S, NEVER)
    distance[accepts] = 0
    front, steps = np.flatnonzero(accepts), 0
    while len(front):
        steps += 1
        before = np.unique(np.concatenate([source[starts[s] : starts[s + 1]] for s in front]))
        front = before[distance[before] == NEVER]
        distance[front] = steps
    return distance


def _reachable(edges: _Edges, states: int) -> np.ndarray:
    """Which states some tokens lead to from state 0, itself among them."""
    starts = np.searchsorted(edges.source, np.arange(states + 1))
    seen = np.zeros(states, bool)
    seen[0], front = True, np.array([0])
    while len(front):
        reached = np.unique(np.concatenate([edges.target[starts[s] : starts[s + 1]] for s in front]))
        front = reached[~seen[reached]]
        seen[front] = True
    return seen
