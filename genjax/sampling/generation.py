"""Decode in compiled parts: read the prompts, draw the first token, continue.

`read` turns prompts into a `Prefix`, which many rows may share. `begin` draws the first token of each row.
`advance` draws more: as a scan if every row draws the same number of tokens, else as a loop that ends with
the last row. The state between them is a `Generation`, so output can be streamed in chunks or branched
(x[rows]).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Batch, Decoder, Keys, Tree, Variables
from genjax.errors import ConfigError
from genjax.sampling.constraints import Constraint
from genjax.sampling.logits import Policy, Seen, Truncation, check_finite
from genjax.sampling.stops import StopText


class Tokens(NamedTuple):
    """Hold drawn tokens.

    Attributes:
      tokens: the draws of each row, then padding; frames have one more axis.
      log_probs: of each token under the policy that drew it; 0 on padding, NaN after logits that are not
        finite.
      lengths: tokens drawn in each row, a stop token included.
    """

    tokens: Int[Array, "B N ..."]
    log_probs: Float[Array, "B N"]
    lengths: Int[Array, " B"]


@dataclasses.dataclass(frozen=True)
class Stop:
    """Define when a row ends before its length. Static under jit.

    Attributes:
      tokens: drawing one of these ends the row; it is written and counts in the row's length.
      pad: token that is written after the end.
      least: stop tokens are not drawn among the first `least` tokens of a row.
    """

    tokens: tuple[int, ...] = ()
    pad: int = 0
    least: int = 0

    def hit(self, token: Int[Array, "..."]) -> Bool[Array, "..."]:
        """Return True on stop tokens."""
        return functools.reduce(jnp.logical_or, [token == s for s in self.tokens], jnp.zeros((), bool))


@struct.dataclass
class Prefix:
    """Hold prompts that were read; many continuations can share them.

    Attributes:
      cache: of the decoder, after the tokens of each row.
      logits: of the next token.
      seen: counts of the rows' tokens, for penalties.
      room: further tokens that fit in the cache; static.
    """

    cache: Tree
    logits: Float[Array, "B V"]
    seen: Seen
    room: int = struct.field(pytree_node=False)

    def rows(self, index: Int[Array, " N"]) -> Prefix:
        """Return the prefixes of these rows: `prefix.rows(jnp.zeros(8, int))` repeats the first one."""
        return jax.tree.map(lambda x: x[index], self)


@struct.dataclass
class Generation:
    """Hold the state of decoding; every leaf is batch-first.

    Attributes:
      cache: of the decoder, after all tokens but the last drawn.
      token: last drawn, not yet read by the decoder.
      drawn: tokens drawn by each row; its n-th draw uses fold_in(key, n).
      limit: tokens that each row may draw.
      done: True for rows that have ended.
      seen: counts of tokens read and drawn; None if the policy has no penalty.
      state: of the constraint's automaton; None without a constraint.
      ending: of the stop text's automaton; None without one.
    """

    cache: Tree
    token: Int[Array, "B ..."]
    drawn: Int[Array, " B"]
    limit: Int[Array, " B"]
    done: Bool[Array, " B"]
    seen: Seen | None = None
    state: Int[Array, " B"] | None = None
    ending: Int[Array, " B"] | None = None


@functools.partial(jax.jit, static_argnames=("decoder", "room"))
def read(
    decoder: Decoder,
    variables: Variables,
    tokens: Int[Array, "B P ..."],
    lengths: Int[Array, " B"],
    prompt: Batch,
    *,
    room: int,
) -> Prefix:
    """Read the first `lengths` (at least one) tokens of each row in one step.

    Args:
      prompt: conditions for the decoder's `start` beside the tokens; {} without any.
      room: tokens that the cache must hold in addition to these.
    """
    num, width = tokens.shape[:2]
    cache = decoder.start(variables, prompt, num, width + room)
    logits, trail = decoder.step(variables, cache, tokens)
    last = _at(logits, lengths - 1)
    seen = Seen.none(num, logits.shape[-1])
    if tokens.ndim == 2:
        seen = seen.read(tokens, lengths)
    return Prefix(decoder.commit(trail, lengths), last, seen, room)


@functools.partial(jax.jit, static_argnames=("decoder",))
def extend(
    decoder: Decoder,
    variables: Variables,
    prefix: Prefix,
    tokens: Int[Array, "B P ..."],
    lengths: Int[Array, " B"],
) -> Prefix:
    """Return the prefix after it has read the first `lengths` (possibly zero) tokens of each row too.

    Raises:
      ConfigError: the tokens do not fit in the cache.
    """
    width = tokens.shape[1]
    if width > prefix.room:
        raise ConfigError(
            f"{width} tokens after a prefix with room for {prefix.room}", "read it with more room"
        )
    logits, trail = decoder.step(variables, prefix.cache, tokens)
    last = jnp.where((lengths > 0)[:, None], _at(logits, jnp.maximum(lengths - 1, 0)), prefix.logits)
    seen = prefix.seen.read(tokens, lengths) if tokens.ndim == 2 else prefix.seen
    return Prefix(decoder.commit(trail, lengths), last, seen, prefix.room - width)


def _at(logits: Float[Array, "B T V"], place: Int[Array, " B"]) -> Float[Array, "B V"]:
    """Return the logits of one position of each row."""
    return jnp.take_along_axis(logits, place[:, None, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnames=("policy", "stop"))
def begin(
    keys: Keys,
    prefix: Prefix,
    limit: Int[Array, " B"],
    *,
    policy: Policy,
    stop: Stop = Stop(),
    constraint: Constraint | None = None,
    text: StopText | None = None,
) -> tuple[Generation, Tokens]:
    """Draw the first token of each row; rows with limit 0 draw none."""
    num = keys.shape[0]
    none = jnp.zeros((num,), jnp.int32)
    state = None if constraint is None else constraint.begin(num)
    done = limit <= 0
    if constraint is not None and state is not None:
        done = done | constraint.complete(state)
    token = jnp.full(_token_shape(policy, prefix.logits), stop.pad, jnp.int32)
    seen = prefix.seen if policy.remembers else None
    ending = None if text is None else text.begin(num)
    generation = Generation(prefix.cache, token, none, limit, done, seen, state, ending)
    generation, token, log_prob = draw_next(keys, prefix.logits, generation, policy, stop, constraint, text)
    return generation, Tokens(token[:, None], log_prob[:, None], generation.drawn)


def _token_shape(policy: Policy, logits: Float[Array, "B V"]) -> tuple[int, ...]:
    """Return (B,) for tokens of a vocabulary, (B, V) for frames."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), logits.shape[0]))
    return jax.eval_shape(policy.draw, keys, logits)[0].shape


@functools.partial(jax.jit, static_argnames=("decoder", "length", "policy", "stop", "even"))
def advance(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    generation: Generation,
    *,
    length: int,
    policy: Policy,
    stop: Stop = Stop(),
    constraint: Constraint | None = None,
    text: StopText | None = None,
    even: bool = False,
) -> tuple[Generation, Tokens]:
    """Draw up to `length` more tokens of each row.

    Args:
      even: every row draws all of them: a scan, which needs no masks for rows that have ended.
    """

    def one(g: Generation) -> tuple[Generation, jax.Array, jax.Array]:
        count = jnp.ones_like(g.drawn) if even else (~g.done).astype(jnp.int32)
        logits, trail = decoder.step(variables, g.cache, g.token[:, None])
        g = g.replace(cache=decoder.commit(trail, count))  # type: ignore[attr-defined]
        return draw_next(keys, logits[:, 0], g, policy, stop, constraint, text, even=even)

    before = generation.drawn
    run = _scan if even else _loop
    generation, tokens, log_probs = run(one, generation, length, stop.pad)
    return generation, Tokens(tokens.swapaxes(0, 1), log_probs.T, generation.drawn - before)


_One: TypeAlias = Callable[[Generation], tuple[Generation, jax.Array, jax.Array]]
"""Draws one token of each row: (generation, tokens, log-probabilities)."""
_Drawn: TypeAlias = tuple[Generation, Int[Array, "N B ..."], Float[Array, "N B"]]


def _scan(one: _One, generation: Generation, length: int, pad: int) -> _Drawn:
    """Draw exactly `length` tokens of each row."""
    del pad

    def body(g: Generation, _: None):
        g, token, log_prob = one(g)
        return g, (token, log_prob)

    generation, (tokens, log_probs) = jax.lax.scan(body, generation, None, length=length)
    return generation, tokens, log_probs


def _loop(one: _One, generation: Generation, length: int, pad: int) -> _Drawn:
    """Draw up to `length` tokens of each row; end when all rows have ended."""

    def goes_on(carry):
        at, g, _, _ = carry
        return (at < length) & ~g.done.all()

    def body(carry):
        at, g, tokens, log_probs = carry
        g, token, log_prob = one(g)
        return at + 1, g, tokens.at[at].set(token), log_probs.at[at].set(log_prob)

    tokens = jnp.full((length, *generation.token.shape), pad, generation.token.dtype)
    log_probs = jnp.zeros((length, generation.drawn.shape[0]))
    carry = (jnp.zeros((), jnp.int32), generation, tokens, log_probs)
    _, generation, tokens, log_probs = jax.lax.while_loop(goes_on, body, carry)
    return generation, tokens, log_probs


def draw_next(
    keys: Keys,
    logits: Float[Array, "B V"],
    generation: Generation,
    policy: Policy,
    stop: Stop,
    constraint: Constraint | None,
    text: StopText | None = None,
    *,
    even: bool = False,
) -> tuple[Generation, Int[Array, "B ..."], Float[Array, " B"]]:
    """Draw one token of every row that has not ended: (generation, tokens, log-probabilities)."""
    g = generation
    bad = check_finite(logits, None if even else g.done)
    here = jax.vmap(jax.random.fold_in)(keys, g.drawn)
    allowed = _late_enough(g, logits.shape[-1], stop, text)
    left = jnp.zeros_like(g.done)
    if constraint is None:
        token, log_prob = policy.draw(here, logits, g.seen, allowed)
    else:
        assert isinstance(policy, Truncation)
        assert g.state is not None
        token, log_prob, left = constraint.draw(
            here, logits, g.state, g.limit - g.drawn - 1, policy, g.seen, stop.tokens
        )
    if even:
        written = jnp.ones_like(g.done)
        done = g.done
        state = g.state
        ending = g.ending
    else:
        written = ~g.done & ~left
        log_prob = jnp.where(g.done, 0.0, log_prob)
        token = jnp.where(written.reshape(-1, *(1,) * (token.ndim - 1)), token, stop.pad)
        stopped = written & stop.hit(token) if stop.tokens else jnp.zeros_like(written)
        ending = g.ending
        if text is not None and ending is not None:
            ending = jnp.where(written, text.follow(ending, token), ending)
            stopped = stopped | (written & text.hit(ending))
        done = g.done | left | stopped | (g.drawn + 1 >= g.limit)
        state = g.state
        if constraint is not None and state is not None:
            state = jnp.where(written & ~stopped, constraint.follow(state, token), state)
            done = done | constraint.complete(state)
    # The most probable token of NaN logits is some token: its log-probability says that it means nothing.
    log_prob = jnp.where(bad, jnp.nan, log_prob)
    count = written.astype(jnp.int32)
    seen = None if g.seen is None else g.seen.draw(token, count)
    after = Generation(g.cache, token, g.drawn + count, g.limit, done, seen, state, ending)
    return after, token, log_prob


def _late_enough(
    g: Generation, vocabulary: int, stop: Stop, text: StopText | None
) -> Bool[Array, "B V"] | None:
    """Return the tokens that may be drawn: no end among the first `stop.least` tokens; None if all may."""
    early = (g.drawn < stop.least)[:, None]
    if stop.least and stop.tokens:
        return ~(early & stop.hit(jnp.arange(vocabulary))[None])
    if stop.least and text is not None and g.ending is not None:
        return ~(early & text.completes(g.ending, vocabulary))
    return None
