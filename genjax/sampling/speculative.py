"""Decode speculatively: a cheap decoder drafts tokens, and the target verifies them all in one step.

Every token has the distribution that the target alone would give it (Leviathan et al. 2023, arXiv:2211.17192;
Chen et al. 2023, arXiv:2302.01318). A drafted token x is accepted with probability min(1, p(x) / q(x)); the
first rejected one is replaced by a draw from max(p - q, 0), normalised. p and q are the distributions of
target and draft after temperature and truncation. The rows of a batch advance by different counts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Batch, Decoder, Keys, Tree, Variables
from genjax.errors import ConfigError
from genjax.sampling.generation import Prefix, Stop, begin, read
from genjax.sampling.logits import Truncation, check_finite
from genjax.sampling.stops import StopText


class Speculated(NamedTuple):
    """Hold drawn tokens, as `generation.Tokens` does, and how many drafted tokens were accepted.

    Attributes:
      log_probs: under the target's truncated distribution; 0 on padding.
      lengths: tokens drawn in each row, a stop token included.
      accepted, drafted: drafted tokens that were accepted, and that were verified.
    """

    tokens: Int[Array, "B N"]
    log_probs: Float[Array, "B N"]
    lengths: Int[Array, " B"]
    accepted: Int[Array, " B"]
    drafted: Int[Array, " B"]

    @property
    def rate(self) -> jax.Array:
        """Return the fraction of drafted tokens that were accepted, over all rows."""
        return self.accepted.sum() / jnp.maximum(self.drafted.sum(), 1)


@struct.dataclass
class _State:
    """Hold the state of the loop. Both caches end before `token`, the last drawn token."""

    target: Tree
    draft: Tree
    token: Int[Array, " B"]
    drawn: Int[Array, " B"]
    done: Bool[Array, " B"]
    tokens: Int[Array, "B M"]
    log_probs: Float[Array, "B M"]
    accepted: Int[Array, " B"]
    drafted: Int[Array, " B"]


def generate(
    target: Decoder,
    target_variables: Variables,
    draft: Decoder,
    draft_variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P"],
    *,
    length: int,
    draft_length: int = 4,
    lengths: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
    draft_prompt: Batch | None = None,
    stop: tuple[int, ...] | StopText = (),
    pad: int = 0,
    min_length: int = 0,
    **options: Any,
) -> Speculated:
    """Draw up to `length` new tokens for each row from the target's distribution.

    Row i is a function of keys[i], its prompt and the variables alone. With temperature 0 the tokens are
    those of greedy decoding.

    Args:
      target, draft: two decoders over one vocabulary.
      draft_length: tokens drafted at a time; the target reads one more.
      prompt, draft_prompt: other conditions of each decoder.
      tokens, lengths, stop, pad, min_length: see `autoregressive.generate`.
      options: fields of `logits.Truncation`, for both decoders. Penalties depend on the tokens drawn before
        and are not supported.

    Raises:
      ConfigError: nothing to draft or to draw, or a penalty is set.
    """
    if draft_length < 1 or length < 1 or tokens.shape[1] < 1:
        raise ConfigError(
            f"drafts of {draft_length} tokens for a prompt of {tokens.shape[1]} and a length of {length}",
            "give at least 1 of each",
        )
    if isinstance(stop, StopText):
        raise ConfigError(
            "stop: speculative decoding ends at stop tokens, and this stop is not one token",
            "give another stop, or draw without a draft",
        )
    policy = _policy(options)
    if lengths is None:
        lengths = jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32)
    rule = Stop(tuple(int(s) for s in stop), pad, min_length)
    return _generate(
        target,
        target_variables,
        draft,
        draft_variables,
        keys,
        tokens,
        lengths,
        (prompt or {}, draft_prompt or {}),
        length=length,
        ahead=draft_length,
        policy=policy,
        stop=rule,
    )


def _policy(options: dict[str, Any]) -> Truncation:
    """Return the policy of both decoders.

    Raises:
      ConfigError: an option that speculative decoding does not have; names it.
    """
    hint = "leave it out, or draw without a draft"
    known = {field.name for field in dataclasses.fields(Truncation)}
    for name in options:
        if name not in known:
            raise ConfigError(f"speculative decoding has no option {name!r}", hint)
    for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
        if Truncation(**{name: options.get(name, getattr(Truncation, name))}).remembers:
            raise ConfigError(f"speculative decoding does not support {name}", hint)
    return Truncation(**options)


@functools.partial(jax.jit, static_argnames=("target", "draft", "length", "ahead", "policy", "stop"))
def _generate(
    target,
    target_variables,
    draft,
    draft_variables,
    keys,
    tokens,
    lengths,
    prompts,
    *,
    length,
    ahead,
    policy,
    stop,
) -> Speculated:
    room = length + ahead
    known = read(target, target_variables, tokens, lengths, prompts[0], room=room)
    guess = read(draft, draft_variables, tokens, lengths, prompts[1], room=room)
    if known.logits.shape != guess.logits.shape:
        sizes = f"{known.logits.shape[1]} and {guess.logits.shape[1]}"
        raise ConfigError(f"a target and a draft over {sizes} tokens", "train both with one tokenizer")
    both = _Both(target, target_variables, draft, draft_variables, keys, length, ahead, policy, stop)
    state = jax.lax.while_loop(lambda s: ~s.done.all(), lambda s: both.advance(s), both.begin(known, guess))
    return Speculated(
        state.tokens[:, :length], state.log_probs[:, :length], state.drawn, state.accepted, state.drafted
    )


class _Both(NamedTuple):
    """Hold both decoders and the options of one call: see `generate`."""

    target: Decoder
    target_variables: Variables
    draft: Decoder
    draft_variables: Variables
    keys: Keys
    length: int
    ahead: int
    policy: Truncation
    stop: Stop

    def begin(self, known: Prefix, guess: Prefix) -> _State:
        """Draw the first token of each row from the target's prefix."""
        B = self.keys.shape[0]
        g, first = begin(
            self.keys, known, jnp.full((B,), self.length, jnp.int32), policy=self.policy, stop=self.stop
        )
        none = jnp.zeros((B,), jnp.int32)
        # A block may reach beyond the length; the surplus is cut off at the end.
        blank = jnp.full((B, self.length + self.ahead + 1), self.stop.pad, jnp.int32)
        return _State(
            target=known.cache,
            draft=guess.cache,
            token=g.token,
            drawn=g.drawn,
            done=g.done,
            tokens=blank.at[:, 0].set(first.tokens[:, 0]),
            log_probs=jnp.zeros(blank.shape).at[:, 0].set(first.log_probs[:, 0]),
            accepted=none,
            drafted=none,
        )

    def advance(self, s: _State) -> _State:
        """Draft a block, verify it, and write the accepted tokens and the one after them."""
        ahead = self.ahead
        here = jax.vmap(jax.random.fold_in)(self.keys, s.drawn)
        drafted, q = _draft(self.draft, self.draft_variables, s, here, ahead, self.policy, self.stop)
        block = jnp.concatenate([s.token[:, None], drafted], axis=1)
        logits, trail = self.target.step(self.target_variables, s.target, block)
        check_finite(logits.reshape(-1, logits.shape[-1]), jnp.repeat(s.done, ahead + 1))
        p = _narrow(logits, s.drawn, self.policy, self.stop)
        again = jax.vmap(jax.random.fold_in)(here, jnp.full(s.drawn.shape, ahead))
        accepted, extra = verify(again, drafted, q, p)
        new = jnp.where(jnp.arange(ahead + 1)[None] < accepted[:, None], _right(drafted), extra[:, None])
        count, done = _count(new, accepted + 1, self.length - s.drawn, self.stop)
        count = jnp.where(s.done, 0, count)
        # Both have read the tokens of the block up to the one before the last new token.
        draft_trail = self.draft.step(self.draft_variables, s.draft, block)[1]
        last = jnp.take_along_axis(new, jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
        tokens, log_probs = _written(s, new, p, count)
        return _State(
            target=self.target.commit(trail, count),
            draft=self.draft.commit(draft_trail, count),
            token=jnp.where(s.done, s.token, last),
            drawn=s.drawn + count,
            done=s.done | done,
            tokens=tokens,
            log_probs=log_probs,
            accepted=s.accepted + jnp.where(s.done, 0, accepted),
            drafted=s.drafted + jnp.where(s.done, 0, jnp.minimum(accepted + 1, ahead)),
        )


def _written(
    s: _State, new: Int[Array, "B D+1"], p: Float[Array, "B D+1 V"], count: Int[Array, " B"]
) -> tuple[Int[Array, "B M"], Float[Array, "B M"]]:
    """Return (tokens, log-probabilities) of the state with the first `count` new tokens written."""
    chosen = jnp.take_along_axis(p, new[..., None], axis=-1)[..., 0]
    at = jnp.arange(new.shape[1])[None]
    # Tokens beyond the count are sent out of range, and dropped.
    places = at + jnp.where(at < count[:, None], s.drawn[:, None], s.tokens.shape[1])
    rows = jnp.arange(new.shape[0])[:, None]
    tokens = s.tokens.at[rows, places].set(new, mode="drop")
    return tokens, s.log_probs.at[rows, places].set(chosen, mode="drop")


def _right(drafted: Int[Array, "B D"]) -> Int[Array, "B D+1"]:
    """Return the draft, padded to the width of a block."""
    return jnp.pad(drafted, ((0, 0), (0, 1)))


def _draft(
    decoder: Decoder,
    variables: Variables,
    s: _State,
    keys: Keys,
    ahead: int,
    policy: Truncation,
    stop: Stop,
) -> tuple[Int[Array, "B D"], Float[Array, "B D V"]]:
    """Return (`ahead` drafted tokens, the log-probabilities from which each was drawn)."""
    one = jnp.ones_like(s.drawn)

    def body(carry, n):
        cache, token = carry
        logits, trail = decoder.step(variables, cache, token[:, None])
        q = _narrow(logits, s.drawn + n, policy, stop)[:, 0]
        here = jax.vmap(jax.random.fold_in)(keys, jnp.full(token.shape, n))
        token, _ = policy.choose(here, q)
        return (decoder.commit(trail, one), token), (token, q)

    _, (tokens, q) = jax.lax.scan(body, (s.draft, s.token), jnp.arange(ahead))
    return tokens.T, q.swapaxes(0, 1)


def _narrow(
    logits: Float[Array, "B T V"], drawn: Int[Array, " B"], policy: Truncation, stop: Stop
) -> Float[Array, "B T V"]:
    """Return the log-probabilities of the draws number drawn, drawn + 1, ..."""
    B, T, V = logits.shape
    allowed = None
    if stop.tokens and stop.least:
        early = drawn[:, None] + jnp.arange(T)[None] < stop.least
        allowed = ~(early[..., None] & stop.hit(jnp.arange(V))[None, None]).reshape(B * T, V)
    return policy(logits.reshape(B * T, V), None, allowed).reshape(B, T, V)


def verify(
    keys: Keys,
    drafted: Int[Array, "B D"],
    q: Float[Array, "B D V"],
    p: Float[Array, "B D+1 V"],
) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
    """Return (number of accepted tokens, the token drawn after them), from log-probabilities p and q.

    After a rejection that token is drawn from max(p - q, 0), normalised; after an accepted draft from p
    (Leviathan et al. 2023, algorithm 1).
    """
    ahead = drafted.shape[1]
    accept, again = (jax.vmap(jax.random.fold_in)(keys, jnp.full(keys.shape, n)) for n in range(2))
    u = jax.vmap(lambda key: jax.random.uniform(key, (ahead,)))(accept)
    of = lambda x: jnp.take_along_axis(x, drafted[..., None], axis=-1)[..., 0]
    # u < p / q in logarithms; q > 0, since the token was drawn from it.
    good = jnp.log(u) < of(p[:, :ahead]) - of(q)
    accepted = jnp.cumprod(good, axis=1).sum(axis=1)
    at = lambda x: jnp.take_along_axis(x, accepted[:, None, None], axis=1)[:, 0]
    there = jnp.exp(at(p))
    rest = jnp.maximum(there - at(jnp.exp(jnp.pad(q, ((0, 0), (0, 1), (0, 0)), constant_values=-jnp.inf))), 0)
    # If p and q are equal up to rounding, the difference is empty: draw from p.
    rest = jnp.where(rest.sum(axis=-1, keepdims=True) > 0, rest, there)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, rest.shape[1:]))(again)
    return accepted, jnp.argmax(jnp.log(rest) + noise, axis=-1).astype(jnp.int32)


def _count(
    new: Int[Array, "B D+1"], count: Int[Array, " B"], left: Int[Array, " B"], stop: Stop
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
    """Return (how many of the first `count` new tokens are written, True for rows that end with them)."""
    count = jnp.minimum(count, left)
    done = count >= left
    if stop.tokens:
        ends = stop.hit(new) & (jnp.arange(new.shape[1])[None] < count[:, None])
        stopped = ends.any(axis=1)
        count = jnp.where(stopped, jnp.argmax(ends, axis=1) + 1, count)
        done = done | stopped
    return count, done
