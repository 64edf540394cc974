"""Search for the most probable continuations with beams, as one compiled loop.

Every step takes the best candidates over all beams of a row. Candidates that end become hypotheses with the
score sum log p / length ** length_penalty (Wu et al. 2016, arXiv:1609.08144, eq. 14 with a simpler length
penalty); the best others continue. All rules equal those of the library transformers with
early_stopping=False, and so do the outputs, token for token.
"""

from __future__ import annotations

import dataclasses
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
from genjax.sampling.logits import Seen, Truncation, check_finite, penalise
from genjax.sampling.stops import StopText

WORST = -1.0e9
"""Added to the score of candidates that must not be chosen; their order remains, as in transformers."""


class Beams(NamedTuple):
    """Hold the hypotheses of each row, best first.

    Attributes:
      tokens: of each hypothesis, a stop token included, then padding.
      scores: sum of log-probabilities / length ** length_penalty; -inf if a row has fewer hypotheses.
      lengths: of the tokens.
    """

    tokens: Int[Array, "B K N"]
    scores: Float[Array, "B K"]
    lengths: Int[Array, "B K"]


@struct.dataclass
class _Search:
    """Hold a search after `at` tokens.

    Attributes:
      cache, tokens, scores: of the live beams.
      state: of the constraint's automaton, per beam; None without a constraint.
      known: tokens of the prompt or of the beam; None without a repetition penalty.
      ended, full: the best hypotheses, and True for those that exist.
      open: True for rows that can still improve.
    """

    at: Int[Array, ""]
    cache: Tree
    tokens: Int[Array, "B K N"]
    scores: Float[Array, "B K"]
    state: Int[Array, "B K"] | None
    known: Bool[Array, "BK V"] | None
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
    repetition_penalty: float = 1.0,
    stop: tuple[int, ...] | StopText = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
) -> Beams:
    """Return the best `beams` continuations of each row, of at most `length` tokens. One beam is greedy.

    Args:
      tokens, lengths, prompt: see `autoregressive.generate`.
      prefix: prompts that were read before (see `autoregressive.prefix`), instead of these three.
      length_penalty: exponent of the length by which scores are divided: 0 prefers short rows, 1 is the mean.
      repetition_penalty: multiplies the log-probability of tokens in the prompt or the beam, as transformers
        does; 1 is none.
      stop: tokens that end a hypothesis.
      min_length: no stop token comes among the first `min_length` tokens.
      constraint: language that every hypothesis matches. Without stop tokens, an accepted hypothesis that
        could continue may also end, with the probability of all tokens outside the language.

    Raises:
      ConfigError: a stop text, no beams, a repetition penalty that is not positive, no tokens or no length,
        or a constraint that no row of this length can match.
    """
    if beams < 1 or length < 1 or (prefix is None and tokens.shape[1] < 1):
        raise ConfigError(
            f"a search with {beams} beams of {length} tokens",
            "give at least one beam, prompt token and token",
        )
    if isinstance(stop, StopText):
        raise ConfigError(
            "stop: a search with beams ends at stop tokens, and this stop is not one token",
            "give another stop, or beams=1",
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
        raise ConfigError(f"the prefix has room for {start.room} tokens", f"give it room for {length - 1}")
    rule = Stop(tuple(int(s) for s in stop), pad, min_length)
    return _search(
        decoder,
        variables,
        start,
        constraint,
        beams=beams,
        length=length,
        penalty=length_penalty,
        repetition=Truncation(repetition_penalty=repetition_penalty).repetition_penalty,
        stop=rule,
    )


def check_options(policy: Truncation, beams: int, length_penalty: float) -> None:
    """Refuse options that would have no effect with this number of beams.

    A search draws nothing: transformers applies the repetition penalty to it and no other option of `policy`.

    Raises:
      ConfigError: an option that is not at its default; names it.
    """
    if beams == 1:
        if length_penalty != 1:
            raise ConfigError(
                f"length_penalty={length_penalty} has no effect without a beam search",
                "set beams, or leave it out",
            )
        return
    for field in dataclasses.fields(policy):
        value = getattr(policy, field.name)
        if field.name != "repetition_penalty" and value != field.default:
            raise ConfigError(
                f"{field.name}={value} has no effect on a search with beams={beams}, which draws nothing",
                f"set {field.name}={field.default}, or beams=1",
            )


@functools.partial(jax.jit, static_argnames=("decoder", "beams", "length", "penalty", "repetition", "stop"))
def _search(decoder, variables, prefix, constraint, *, beams, length, penalty, repetition, stop) -> Beams:
    B = prefix.logits.shape[0]
    K = beams
    rows = jnp.repeat(jnp.arange(B), K)
    blank = jnp.full((B, K, length), stop.pad, jnp.int32)
    none = jnp.zeros((B, K), jnp.int32)
    search = _Search(
        at=jnp.zeros((), jnp.int32),
        cache=jax.tree.map(lambda x: x[rows], prefix.cache),
        tokens=blank,
        # All beams are equal at first: only one of them may have candidates.
        scores=jnp.where(jnp.arange(K)[None] == 0, jnp.zeros((B, 1)), WORST),
        state=None if constraint is None else none,
        known=None if repetition == 1 else _known(prefix.seen)[rows],
        ended=Beams(blank, jnp.full((B, K), WORST), none),
        full=jnp.zeros((B, K), bool),
        open=jnp.ones((B,), bool),
    )
    how = {"constraint": constraint, "penalty": penalty, "repetition": repetition, "stop": stop}
    choose = functools.partial(_choose, **how)

    def trip(s: _Search) -> _Search:
        last = jnp.take_along_axis(s.tokens, jnp.broadcast_to(s.at - 1, (B, K, 1)), axis=2)
        logits, trail = decoder.step(variables, s.cache, last.reshape(B * K, 1))
        s = s.replace(cache=decoder.commit(trail, jnp.ones((B * K,), jnp.int32)))  # type: ignore[attr-defined]
        return choose(s, logits[:, 0])

    search = choose(search, prefix.logits[rows])
    search = jax.lax.while_loop(lambda s: (s.at < length) & s.open.any(), trip, search)
    tokens, scores, lengths = search.ended
    full = search.full
    return Beams(
        jnp.where(full[..., None], tokens, stop.pad),
        jnp.where(full, scores, -jnp.inf),
        jnp.where(full, lengths, 0),
    )


def _known(seen: Seen) -> Bool[Array, "B V"]:
    """Return the tokens that each row has read or drawn."""
    return seen.given | (seen.drawn > 0)


class _Candidates(NamedTuple):
    """Hold M candidates of each row, best first.

    Attributes:
      scores: sums of log-probabilities.
      beam: that each continues.
      token: that each adds.
      here: False for a candidate that ends without a token.
    """

    scores: Float[Array, "B M"]
    beam: Int[Array, "B M"]
    token: Int[Array, "B M"]
    here: Bool[Array, "B M"]


def _candidates(
    s: _Search, logits: Float[Array, "BK V"], constraint: Constraint | None, repetition: float, stop: Stop
) -> _Candidates:
    """Return the best continuations by one token, so many that K of them can go on."""
    B, K, N = s.tokens.shape
    V = logits.shape[-1]
    check_finite(logits, jnp.repeat(~s.open, K))
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    if s.known is not None:
        # Not normalised again: the score of a hypothesis is the sum of penalised values, as in transformers.
        log_probs = penalise(log_probs, s.known, repetition)
    if stop.tokens and stop.least:
        early = (s.at < stop.least) & stop.hit(jnp.arange(V))
        log_probs = jnp.where(early[None], -jnp.inf, log_probs)
    if constraint is not None:
        assert s.state is not None
        left = jnp.broadcast_to(N - s.at - 1, (B * K,))
        log_probs = constraint.mask(log_probs, s.state.reshape(-1), left, stop.tokens)
        # Not -inf: forbidden tokens must stay comparable.
        log_probs = jnp.maximum(log_probs, 4 * WORST)
    width = log_probs.shape[-1]
    total = (log_probs.reshape(B, K, width) + s.scores[..., None]).reshape(B, K * width)
    # Each beam may end with each stop token, or without a token: K others remain in any case.
    scores, index = jax.lax.top_k(total, min(max(2, 1 + len(stop.tokens)) * K, K * width))
    token = (index % width).astype(jnp.int32)
    # The constraint's additional column V ends a row without a token.
    here = token < V
    return _Candidates(scores, index // width, jnp.where(here, token, stop.pad), here)


def _choose(
    s: _Search,
    logits: Float[Array, "BK V"],
    *,
    constraint: Constraint | None,
    penalty: float,
    repetition: float,
    stop: Stop,
) -> _Search:
    """Advance the search by one step, from the logits after each beam."""
    B, K, N = s.tokens.shape
    scores, beam, token, here = _candidates(s, logits, constraint, repetition, stop)
    tokens = jnp.take_along_axis(s.tokens, beam[..., None], axis=1)
    tokens = jnp.where(jnp.arange(N)[None, None] == s.at, token[..., None], tokens)
    ends = (stop.hit(token) & here) | ~here | (s.at + 1 >= N)
    state = s.state
    if constraint is not None and state is not None:
        state = jnp.take_along_axis(state, beam, axis=1)
        text = here & ~stop.hit(token)
        after = constraint.follow(state.reshape(-1), token.reshape(-1)).reshape(state.shape)
        state = jnp.where(text, after, state)
        ends = ends | constraint.complete(state)

    going, order = jax.lax.top_k(scores + ends * WORST, K)
    take = functools.partial(jnp.take_along_axis, indices=order, axis=1)
    rows = (jnp.arange(B)[:, None] * K + take(beam)).reshape(-1)
    # Powers in float64, as transformers computes them.
    divisor = jnp.asarray(np.arange(N + 2, dtype=np.float64).clip(1) ** penalty, jnp.float32)
    size = jnp.where(here, s.at + 1, s.at)
    # Only candidates among the first K become hypotheses.
    counts = ends & (jnp.arange(ends.shape[1])[None] < K) & (scores > WORST / 2)
    value = scores / divisor[s.at + 1] + (~s.open[:, None]) * WORST + (~counts) * WORST
    ended, full = _best(s.ended, s.full, Beams(tokens, value, size), counts)
    return _Search(
        at=s.at + 1,
        cache=jax.tree.map(lambda x: x[rows], s.cache),
        tokens=jnp.take_along_axis(tokens, order[..., None], axis=1),
        scores=going,
        state=None if state is None else take(state),
        known=None if s.known is None else _with(s.known[rows], take(token).reshape(-1)),
        ended=ended,
        full=full,
        open=_open(s.open, going, divisor[s.at + 1], ended, full),
    )


def _with(known: Bool[Array, "BK V"], token: Int[Array, " BK"]) -> Bool[Array, "BK V"]:
    """Return the known tokens of each beam after one more."""
    return known.at[jnp.arange(token.shape[0]), token].set(True, mode="drop")


def _open(
    before: Bool[Array, " B"],
    going: Float[Array, "B K"],
    divisor: Float[Array, ""],
    ended: Beams,
    full: Bool[Array, "B K"],
) -> Bool[Array, " B"]:
    """Return True for rows whose best beam, if it ended now, would beat their worst hypothesis."""
    worst = jnp.where(full, ended.scores.min(axis=1, keepdims=True), WORST)
    better = (going[:, :1] / divisor > worst).any(axis=1)
    still = before & better & (going[:, 0] > WORST / 2)
    if going.shape[1] == 1:
        # Greedy search ends with its only beam.
        still = still & ~full[:, 0]
    return still


def _best(
    old: Beams, full: Bool[Array, "B K"], new: Beams, counts: Bool[Array, "B M"]
) -> tuple[Beams, Bool[Array, "B K"]]:
    """Return the K best of old and new hypotheses, and True for those that exist."""
    joined = [jnp.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)]
    order = jax.lax.top_k(joined[1], full.shape[1])[1]
    tokens = jnp.take_along_axis(joined[0], order[..., None], axis=1)
    scores, lengths = (jnp.take_along_axis(x, order, axis=1) for x in joined[1:])
    return Beams(tokens, scores, lengths), jnp.take_along_axis(
        jnp.concatenate([full, counts], axis=1), order, axis=1
    )
