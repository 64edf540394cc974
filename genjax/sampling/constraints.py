"""Constrained decoding: what is drawn always matches a regular expression, a JSON schema or a list of words.

An automaton over bytes (sampling/automata.py) and the bytes that each token adds give tables over tokens
(Willard and Louf 2023, arXiv:2307.09702): state x token -> state, and the fewest tokens from each state to
an accepted end. The draw is masked to tokens from whose state the end can still be reached in the length that
is left, so that every sample matches in full. Tokens that lead to the same state from every state share a
column, which makes the tables small: at 50,000 tokens a few hundred columns are usual.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


@struct.dataclass
class Constraint:
    """An automaton over tokens: an argument of compiled functions, so that its like compiles nothing.

    Where stop tokens are given, they may be drawn in accepting states, and nothing else ends a row before
    its time. Where there are none, a row in an accepting state ends with the probability that the model
    gives to all tokens with which the text would leave the language. It also ends where nothing can follow.

    Attributes:
      column: of each token in `next`.
      next: the state after a token of that column; -1 where there is none.
      distance: the fewest tokens from a state to an accepting one.
      last: an accepting state that nothing follows.
      fewest: distance from the start; static, so that an impossible length is refused before compilation.
    """

    column: Int[Array, " V"]
    next: Int[Array, "S G"]
    distance: Int[Array, " S"]
    last: Bool[Array, " S"]
    fewest: int = struct.field(pytree_node=False)

    def begin(self, num: int) -> Int[Array, " num"]:
        """The start state of `num` rows."""
        return jnp.zeros((num,), jnp.int32)

    def complete(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Whether the text is accepted and nothing can follow."""
        return self.last[state]

    def follow(self, state: Int[Array, " B"], token: Int[Array, " B"]) -> Int[Array, " B"]:
        """The state after an allowed token; the same one after any other."""
        after = self.next[state, self.column[jnp.minimum(token, self.column.shape[0] - 1)]]
        return jnp.where(after < 0, state, after)

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
        after = self.next[state]
        possible = (after >= 0) & (self.distance[after] <= left[:, None])
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
    rows, column = _transitions(automaton, token_bytes)
    after = rows.T  # state x column
    distance = _distances(after, automaton.accepts)
    if distance[0] >= NEVER:
        raise ConfigError(
            f"{name} accepts nothing that can be written in these {len(token_bytes)} tokens",
            "loosen it, or give a tokenizer that has its characters",
        )
    after = np.where((after >= 0) & (distance[after] < NEVER), after, -1)
    keep = _reachable(after)
    number = np.full(len(after), -1, np.int32)
    number[keep] = np.arange(len(keep))
    after, distance = after[keep], distance[keep]
    after = np.where(after >= 0, number[after], -1).astype(np.int32)
    columns, merged = _unique(after.T)
    last = (distance == 0) & (after < 0).all(axis=1)
    return Constraint(
        jnp.asarray(merged[column], jnp.int32),
        jnp.asarray(columns.T, jnp.int32),
        jnp.asarray(distance, jnp.int32),
        jnp.asarray(last),
        int(distance[0]),
    )


def _transitions(automaton: Automaton, token_bytes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(columns x states -> state, the column of each token).

    All tokens are read at once, a byte after another, from all states at once; beginnings that lead from
    every state to the same are one from there on, so that few are followed however many tokens there are.
    """
    S = len(automaton.step)
    step = np.concatenate([automaton.step, np.full((1, 256), -1, np.int32)])  # state -1 stays where it is
    sizes = np.array([len(t) for t in token_bytes])
    text = np.zeros((len(token_bytes), max(1, sizes.max(initial=0))), np.uint8)
    for row, token in zip(text, token_bytes, strict=True):
        row[: len(token)] = np.frombuffer(token, np.uint8)
    letters, letter = _unique(step.T)  # bytes that no state tells apart are one letter
    dead = np.full((1, S), -1, np.int32)
    found, column = [dead], np.zeros(len(token_bytes), np.int64)  # empty tokens lead nowhere
    here, rows = np.arange(S, dtype=np.int32)[None], np.zeros(len(token_bytes), np.int64)
    alive = np.flatnonzero(sizes > 0)
    for depth in range(text.shape[1]):
        pair, inverse = np.unique(
            rows[alive] * len(letters) + letter[text[alive, depth]], return_inverse=True
        )
        reached = letters[(pair % len(letters))[:, None], here[pair // len(letters)]]
        here, merged = _unique(reached)
        rows[alive] = merged[inverse]
        ends = alive[sizes[alive] == depth + 1]
        column[ends] = sum(map(len, found)) + rows[ends]
        found.append(here)
        live = (here >= 0).any(axis=1)
        alive = alive[(sizes[alive] > depth + 1) & live[rows[alive]]]
        if not len(alive):
            break
    columns, merged = _unique(np.concatenate(found))
    return columns, merged[column]


def _unique(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the different rows, which of them each is), by 64-bit sums in place of comparisons of whole rows."""
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) | np.uint64(1)
    sums = (rows.astype(np.uint64) * factors[None]).sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first][inverse], rows):
        return np.unique(rows, axis=0, return_inverse=True)  # two sums met
    return rows[first], inverse


def _distances(after: np.ndarray, accepts: np.ndarray) -> np.ndarray:
    """The fewest tokens from each state to an accepting one, breadth first against the edges."""
    S = len(after)
    source, _ = np.nonzero(after >= 0)
    edges = np.unique(source.astype(np.int64) * S + after[after >= 0])
    source, target = edges // S, edges % S
    order = np.argsort(target, kind="stable")
    source, starts = source[order], np.searchsorted(target[order], np.arange(S + 1))
    distance = np.full(S, NEVER)
    distance[accepts] = 0
    front, steps = np.flatnonzero(accepts), 0
    while len(front):
        steps += 1
        before = np.unique(np.concatenate([source[starts[s] : starts[s + 1]] for s in front]))
        front = before[distance[before] == NEVER]
        distance[front] = steps
    return distance


def _reachable(after: np.ndarray) -> np.ndarray:
    """The states that some tokens lead to from state 0, which comes first."""
    seen = np.zeros(len(after), bool)
    seen[0], front = True, np.array([0])
    while len(front):
        reached = np.unique(after[front])
        front = reached[(reached >= 0) & ~seen[reached]]
        seen[front] = True
    return np.flatnonzero(seen)
