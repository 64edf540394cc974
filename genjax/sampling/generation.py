"""The compiled machine under every way of drawing: read the prompts, draw the first token, go on.

`read` takes prompts to a `Prefix`, which many rows may share; `begin` draws each row's first token from it;
`advance` goes on, as a scan where every row draws as many tokens, else as a loop that ends when all have.
What is carried between them is a `Generation`: output can be streamed in chunks or branched (x[rows]).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Batch, Decoder, Keys, Tree, Variables
from genjax.errors import ConfigError
from genjax.sampling.constraints import Constraint
from genjax.sampling.logits import Policy, Seen, Truncation


class Tokens(NamedTuple):
    """What was drawn.

    Attributes:
      tokens: each row's draws, then padding; frames have a last axis of their own.
      log_probs: of each under the narrowed distribution it was drawn from; 0 on padding.
      lengths: how many tokens of each row were drawn, a stop token included.
    """

    tokens: Int[Array, "B N ..."]
    log_probs: Float[Array, "B N"]
    lengths: Int[Array, " B"]


@dataclasses.dataclass(frozen=True)
class Stop:
    """When a row ends before its length. Static under jit.

    Attributes:
      tokens: drawing one of these ends the row; it is written, and counted in its length.
      pad: what is written after the end.
      least: stop tokens are not drawn among a row's first `least` tokens.
    """

    tokens: tuple[int, ...] = ()
    pad: int = 0
    least: int = 0

    def hit(self, token: Int[Array, "..."]) -> Bool[Array, "..."]:
        """Whether these are stop tokens."""
        return functools.reduce(jnp.logical_or, [token == s for s in self.tokens], jnp.zeros((), bool))


@struct.dataclass
class Prefix:
    """Prompts that were read: what many continuations can share.

    Attributes:
      cache: the decoder's, after each row's tokens.
      logits: of the token that comes next.
      seen: the rows' tokens, as penalties need them.
      room: how many more tokens the cache holds; static.
    """

    cache: Tree
    logits: Float[Array, "B V"]
    seen: Seen
    room: int = struct.field(pytree_node=False)

    def rows(self, index: Int[Array, " N"]) -> Prefix:
        """The prefixes of these rows: `prefix.rows(jnp.zeros(8, int))` shares the first among eight."""
        return jax.tree.map(lambda x: x[index], self)


@struct.dataclass
class Generation:
    """Where a decoding stands; every leaf is batch-first.

    Attributes:
      cache: the decoder's, after all tokens but the last drawn.
      token: the last drawn, not yet read by the decoder.
      drawn: how many tokens each row has drawn: its n-th draw uses fold_in(key, n).
      limit: how many it may draw.
      done: whether it has ended.
      seen: what it has read and drawn; None where the policy has no penalty.
      state: where its constraint's automaton stands; None without a constraint.
    """

    cache: Tree
    token: Int[Array, "B ..."]
    drawn: Int[Array, " B"]
    limit: Int[Array, " B"]
    done: Bool[Array, " B"]
    seen: Seen | None = None
    state: Int[Array, " B"] | None = None


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
    """Reads each row's first `lengths` (at least one) of `tokens` at once.

    Args:
      prompt: what the decoder's `start` may condition on beside the tokens; {} for nothing.
      room: how many tokens the cache must hold beside these.
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
    """A prefix after each row's first `lengths` (perhaps none) of these tokens too.

    Raises:
      ConfigError: the cache has no room for them.
    """
    width = tokens.shape[1]
    if width > prefix.room:
        raise ConfigError(f"{width} tokens after a prefix with room for {prefix.room}", "give it more room")
    logits, trail = decoder.step(variables, prefix.cache, tokens)
    last = jnp.where((lengths > 0)[:, None], _at(logits, jnp.maximum(lengths - 1, 0)), prefix.logits)
    seen = prefix.seen.read(tokens, lengths) if tokens.ndim == 2 else prefix.seen
    return Prefix(decoder.commit(trail, lengths), last, seen, prefix.room - width)


def _at(logits: Float[Array, "B T V"], place: Int[Array, " B"]) -> Float[Array, "B V"]:
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
) -> tuple[Generation, Tokens]:
    """Draws each row's first token; rows whose `limit` is 0 draw none."""
    num = keys.shape[0]
    none = jnp.zeros((num,), jnp.int32)
    state = None if constraint is None else constraint.begin(num)
    done = limit <= 0
    if constraint is not None and state is not None:
        done = done | constraint.complete(state)
    token = jnp.full(_token_shape(policy, prefix.logits), stop.pad, jnp.int32)
    seen = prefix.seen if policy.remembers else None
    generation = Generation(prefix.cache, token, none, limit, done, seen, state)
    generation, token, log_prob = draw_next(keys, prefix.logits, generation, policy, stop, constraint)
    return generation, Tokens(token[:, None], log_prob[:, None], generation.drawn)


def _token_shape(policy: Policy, logits: Float[Array, "B V"]) -> tuple[int, ...]:
    """(B,) for tokens of a vocabulary, (B, V) for frames."""
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
    even: bool = False,
) -> tuple[Generation, Tokens]:
    """Up to `length` more tokens of each row.

    Args:
      even: every row is known to draw all of them: then this is a scan, without a word on rows that ended.
    """
    before = generation.drawn

    def one(g: Generation) -> tuple[Generation, jax.Array, jax.Array]:
        count = jnp.ones_like(g.drawn) if even else (~g.done).astype(jnp.int32)
        logits, trail = decoder.step(variables, g.cache, g.token[:, None])
        g = g.replace(cache=decoder.commit(trail, count))  # type: ignore[attr-defined]
        return draw_next(keys, logits[:, 0], g, policy, stop, constraint, even=even)

    if even:

        def body(g: Generation, _):
            g, token, log_prob = one(g)
            return g, (token, log_prob)

        generation, (tokens, log_probs) = jax.lax.scan(body, generation, None, length=length)
    else:

        def goes_on(carry):
            at, g, _, _ = carry
            return (at < length) & ~g.done.all()

        def trip(carry):
            at, g, tokens, log_probs = carry
            g, token, log_prob = one(g)
            return at + 1, g, tokens.at[at].set(token), log_probs.at[at].set(log_prob)

        tokens = jnp.full((length, *generation.token.shape), stop.pad, generation.token.dtype)
        log_probs = jnp.zeros((length, before.shape[0]))
        carry = (jnp.zeros((), jnp.int32), generation, tokens, log_probs)
        _, generation, tokens, log_probs = jax.lax.while_loop(goes_on, trip, carry)
    return generation, Tokens(tokens.swapaxes(0, 1), log_probs.T, generation.drawn - before)


def draw_next(
    keys: Keys,
    logits: Float[Array, "B V"],
    generation: Generation,
    policy: Policy,
    stop: Stop,
    constraint: Constraint | None,
    *,
    even: bool = False,
) -> tuple[Generation, Int[Array, "B ..."], Float[Array, " B"]]:
    """One draw of every row that has not ended: (generation, tokens, log-probabilities)."""
    g = generation
    here = jax.vmap(jax.random.fold_in)(keys, g.drawn)
    allowed = None
    if stop.tokens and stop.least:
        early = g.drawn < stop.least
        allowed = ~(early[:, None] & stop.hit(jnp.arange(logits.shape[-1]))[None])
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
        written, done, state = jnp.ones_like(g.done), g.done, g.state
    else:
        written = ~g.done & ~left
        log_prob = jnp.where(g.done, 0.0, log_prob)
        token = jnp.where(written.reshape(-1, *(1,) * (token.ndim - 1)), token, stop.pad)
        stopped = written & stop.hit(token) if stop.tokens else jnp.zeros_like(written)
        done, state = g.done | left | stopped | (g.drawn + 1 >= g.limit), g.state
        if constraint is not None and state is not None:
            state = jnp.where(written & ~stopped, constraint.follow(state, token), state)
            done = done | constraint.complete(state)
    count = written.astype(jnp.int32)
    seen = None if g.seen is None else g.seen.draw(token, count)
    return Generation(g.cache, token, g.drawn + count, g.limit, done, seen, state), token, log_prob
