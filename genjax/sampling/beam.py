"""Beam search: the likeliest continuations, kept several at a time, as one compiled loop.

Every step takes the best candidates over all beams of a row; those that end are hypotheses with the score
sum log p / length ** length_penalty (Wu et al. 2016, arXiv:1609.08144, eq. 14 with their alpha's simpler
form), the best others go on. The rules, the stop rule among them, are those of transformers with
early_stopping=False, whose outputs these equal token for token.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Batch, Decoder, Tree, Variables
from genjax.errors import ConfigError
from genjax.sampling.constraints import Constraint
from genjax.sampling.generation import Prefix, Stop, read

WORST = -1.0e9
"""Added to the score of what may not be chosen; an order among such remains, as in transformers."""


class Beams(NamedTuple):
    """The hypotheses of each row, best first.

    Attributes:
      tokens: then padding; a stop token is included.
      scores: sum of log-probabilities / length ** length_penalty; -inf where a row has fewer hypotheses.
      lengths: of the tokens.
    """

    tokens: Int[Array, "B K N"]
    scores: Float[Array, "B K"]
    lengths: Int[Array, "B K"]


@struct.dataclass
class _Search:
    """A search after `at` tokens: what goes on, what has ended, and where a row can still improve."""

    at: Int[Array, ""]
    cache: Tree
    tokens: Int[Array, "B K N"]
    scores: Float[Array, "B K"]
    state: Int[Array, "B K"] | None
    ended: Beams
    full: Bool[Array, "B K"]
    open: Bool[Array, " B"]


def beam_search(
    decoder: Decoder,
    variables: Variables,
    tokens: Int[Array, "B P"],
    *,
    beams: int,
    length: int,
    lengths: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
    prefix: Prefix | None = None,
    length_penalty: float = 1.0,
    stop: tuple[int, ...] = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
) -> Beams:
    """The best `beams` continuations of each row, of at most `length` tokens. One beam is greedy.

    Args:
      tokens, lengths, prompt: as of `autoregressive.generate`.
      prefix: prompts that were read (see `autoregressive.prefix`) in the place of all three.
      length_penalty: scores are divided by length to this power: 0 prefers short rows, 1 is the mean.
      stop: tokens that end a hypothesis.
      min_length: no stop token comes among the first `min_length`.
      constraint: what every hypothesis matches. Without stop tokens one that is accepted and could go on
        may also end, at the probability of all tokens outside the language.

    Raises:
      ConfigError: for no beams, no tokens or no length, or a constraint that nothing of this length matches.
    """
    if beams < 1 or length < 1 or (prefix is None and tokens.shape[1] < 1):
        raise ConfigError(
            f"a search with {beams} beams of {length} tokens",
            "give at least one beam, prompt token and token",
        )
    if constraint is not None and (min_length or constraint.fewest > length):
        raise ConfigError(
            f"a constraint of {constraint.fewest} tokens or more, length {length}, min_length {min_length}",
            "give a longer length, and put the least length into the constraint",
        )
    if lengths is None:
        lengths = jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32)
    read_here = functools.partial(read, decoder, variables, room=length - 1)
    start: Prefix = read_here(tokens, lengths, prompt or {}) if prefix is None else prefix
    if start.room < length - 1:
        raise ConfigError(f"a prefix with room for {start.room} tokens", f"give it room for {length - 1}")
    rule = Stop(tuple(int(s) for s in stop), pad, min_length)
    return _search(
        decoder, variables, start, constraint, beams=beams, length=length, penalty=length_penalty, stop=rule
    )


@functools.partial(jax.jit, static_argnames=("decoder", "beams", "length", "penalty", "stop"))
def _search(decoder, variables, prefix, constraint, *, beams, length, penalty, stop) -> Beams:
    B, K = prefix.logits.shape[0], beams
    rows = jnp.repeat(jnp.arange(B), K)
    blank = jnp.full((B, K, length), stop.pad, jnp.int32)
    none = jnp.zeros((B, K), jnp.int32)
    search = _Search(
        at=jnp.zeros((), jnp.int32),
        cache=jax.tree.map(lambda x: x[rows], prefix.cache),
        tokens=blank,
        # All beams are the same at first: only one of them may have candidates.
        scores=jnp.where(jnp.arange(K)[None] == 0, jnp.zeros((B, 1)), WORST),
        state=None if constraint is None else none,
        ended=Beams(blank, jnp.full((B, K), WORST), none),
        full=jnp.zeros((B, K), bool),
        open=jnp.ones((B,), bool),
    )
    choose = functools.partial(_choose, constraint=constraint, penalty=penalty, stop=stop)

    def trip(s: _Search) -> _Search:
        last = jnp.take_along_axis(s.tokens, jnp.broadcast_to(s.at - 1, (B, K, 1)), axis=2)
        logits, trail = decoder.step(variables, s.cache, last.reshape(B * K, 1))
        s = s.replace(cache=decoder.commit(trail, jnp.ones((B * K,), jnp.int32)))  # type: ignore[attr-defined]
        return choose(s, logits[:, 0])

    search = choose(search, prefix.logits[rows])
    search = jax.lax.while_loop(lambda s: (s.at < length) & s.open.any(), trip, search)
    (tokens, scores, lengths), full = search.ended, search.full
    return Beams(
        jnp.where(full[..., None], tokens, stop.pad),
        jnp.where(full, scores, -jnp.inf),
        jnp.where(full, lengths, 0),
    )


def _choose(
    s: _Search, logits: Float[Array, "BK V"], *, constraint: Constraint | None, penalty: float, stop: Stop
) -> _Search:
    """One step of the search, from the logits after each beam."""
    B, K, N = s.tokens.shape
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    V = logits.shape[-1]
    if stop.tokens and stop.least:
        early = (s.at < stop.least) & stop.hit(jnp.arange(V))
        log_probs = jnp.where(early[None], -jnp.inf, log_probs)
    if constraint is not None:
        assert s.state is not None
        left = jnp.broadcast_to(N - s.at - 1, (B * K,))
        log_probs = constraint.mask(log_probs, s.state.reshape(-1), left, stop.tokens)
        log_probs = jnp.maximum(log_probs, 4 * WORST)  # what is forbidden must stay comparable
    width = log_probs.shape[-1]
    total = (log_probs.reshape(B, K, width) + s.scores[..., None]).reshape(B, K * width)
    # So many that K of them go on whatever ends.
    scores, index = jax.lax.top_k(total, min(max(2, 1 + len(stop.tokens)) * K, K * width))
    beam, token = index // width, (index % width).astype(jnp.int32)
    here = token < V  # else it ends without a token
    token = jnp.where(here, token, stop.pad)
    tokens = jnp.take_along_axis(s.tokens, beam[..., None], axis=1)
    tokens = jnp.where(jnp.arange(N)[None, None] == s.at, token[..., None], tokens)
    ends = (stop.hit(token) & here) | ~here | (s.at + 1 >= N)
    state = s.state
    if constraint is not None and state is not None:
        state = jnp.take_along_axis(state, beam, axis=1)
        text = here & ~stop.hit(token)
        state = jnp.where(
            text, constraint.follow(state.reshape(-1), token.reshape(-1)).reshape(state.shape), state
        )
        ends = ends | constraint.complete(state)

    going, order = jax.lax.top_k(scores + ends * WORST, K)
    take = functools.partial(jnp.take_along_axis, indices=order, axis=1)
    rows = (jnp.arange(B)[:, None] * K + take(beam)).reshape(-1)
    divisor = jnp.asarray(np.arange(N + 2, dtype=np.float64).clip(1) ** penalty, jnp.float32)
    size = jnp.where(here, s.at + 1, s.at)
    counts = ends & (jnp.arange(ends.shape[1])[None] < K) & (scores > WORST / 2)
    value = scores / divisor[s.at + 1] + (~s.open[:, None]) * WORST + (~counts) * WORST
    ended, full = _best(s.ended, s.full, Beams(tokens, value, size), counts)

    # A row is open while its best beam, were it to end here, would beat its worst hypothesis.
    worst = jnp.where(full, ended.scores.min(axis=1, keepdims=True), WORST)
    better = (going[:, :1] / divisor[s.at + 1] > worst).any(axis=1)
    still = s.open & better & (going[:, 0] > WORST / 2)
    if K == 1:
        still = still & ~full[:, 0]  # greedy: the only beam has ended
    return _Search(
        at=s.at + 1,
        cache=jax.tree.map(lambda x: x[rows], s.cache),
        tokens=jnp.take_along_axis(tokens, order[..., None], axis=1),
        scores=going,
        state=None if state is None else take(state),
        ended=ended,
        full=full,
        open=still,
    )


def _best(
    old: Beams, full: Bool[Array, "B K"], new: Beams, counts: Bool[Array, "B M"]
) -> tuple[Beams, Bool[Array, "B K"]]:
    """The K best of the hypotheses and the candidates, and which of them have really ended."""
    joined = [jnp.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)]
    order = jax.lax.top_k(joined[1], full.shape[1])[1]
    tokens = jnp.take_along_axis(joined[0], order[..., None], axis=1)
    scores, lengths = (jnp.take_along_axis(x, order, axis=1) for x in joined[1:])
    return Beams(tokens, scores, lengths), jnp.take_along_axis(
        jnp.concatenate([full, counts], axis=1), order, axis=1
    )
