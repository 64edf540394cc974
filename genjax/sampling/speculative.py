"""Speculative decoding: a cheap decoder drafts, the target reads the draft at once and keeps what it may.

Every token is distributed as if the target had drawn it alone (Leviathan et al. 2023, arXiv:2211.17192;
Chen et al. 2023, arXiv:2302.01318): a drafted token x is accepted with probability min(1, p(x) / q(x)); the
first that is not is drawn anew from max(p - q, 0), normalised. p and q are the target's and the draft's
distributions after temperature and truncation. The rows of a batch advance by different counts.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Batch, Decoder, Keys, Tree, Variables
from genjax.errors import ConfigError
from genjax.sampling.generation import Stop, begin, read
from genjax.sampling.logits import Truncation


class Speculated(NamedTuple):
    """What was drawn, as `generation.Tokens`, and how the drafts fared.

    Attributes:
      log_probs: under the target's narrowed distribution; 0 on padding.
      lengths: how many tokens of each row were drawn, a stop token included.
      accepted, drafted: tokens of the draft that were accepted, and that were looked at.
    """

    tokens: Int[Array, "B N"]
    log_probs: Float[Array, "B N"]
    lengths: Int[Array, " B"]
    accepted: Int[Array, " B"]
    drafted: Int[Array, " B"]

    @property
    def rate(self) -> jax.Array:
        """The share of drafted tokens that were accepted, over all rows."""
        return self.accepted.sum() / jnp.maximum(self.drafted.sum(), 1)


@struct.dataclass
class _State:
    """Both caches stand before `token`, the last drawn."""

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
    stop: tuple[int, ...] = (),
    pad: int = 0,
    min_length: int = 0,
    **knobs: Any,
) -> Speculated:
    """Up to `length` new tokens for each row by the target's law, in as few of its steps as the draft allows.

    Row i is a function of keys[i], its prompt and the variables alone. With temperature 0 the tokens are
    those of greedy decoding.

    Args:
      target, draft: two decoders over one vocabulary.
      draft_length: how many tokens are drafted at a time; the target reads one more.
      prompt, draft_prompt: what else each conditions on.
      tokens, lengths, stop, pad, min_length: as of `autoregressive.generate`.
      knobs: of `logits.Truncation`, for both; penalties, which depend on what was drawn, are refused.

    Raises:
      ConfigError: nothing to draft or draw, or a penalty.
    """
    if draft_length < 1 or length < 1 or tokens.shape[1] < 1:
        raise ConfigError(
            f"drafts of {draft_length} tokens for a prompt of {tokens.shape[1]} and a length of {length}",
            "give at least 1 of each",
        )
    policy = Truncation(**knobs)
    if policy.remembers:
        raise ConfigError("penalties with speculative decoding", "leave them out, or draw without a draft")
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
    B, room = keys.shape[0], length + ahead
    known = read(target, target_variables, tokens, lengths, prompts[0], room=room)
    guess = read(draft, draft_variables, tokens, lengths, prompts[1], room=room)
    if known.logits.shape != guess.logits.shape:
        sizes = f"{known.logits.shape[1]} and {guess.logits.shape[1]}"
        raise ConfigError(f"a target and a draft over {sizes} tokens", "train both with one tokenizer")
    limit = jnp.full((B,), length, jnp.int32)
    g, first = begin(keys, known, limit, policy=policy, stop=stop)
    none = jnp.zeros((B,), jnp.int32)
    blank = jnp.full((B, length + ahead + 1), stop.pad, jnp.int32)
    state = _State(
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

    def trip(s: _State) -> _State:
        here = jax.vmap(jax.random.fold_in)(keys, s.drawn)
        drafted, q = _draft(draft, draft_variables, s, here, ahead, policy, stop)
        block = jnp.concatenate([s.token[:, None], drafted], axis=1)
        logits, trail = target.step(target_variables, s.target, block)
        p = _narrow(logits, s.drawn, policy, stop)
        accepted, extra = verify(jax.vmap(jax.random.fold_in)(here, jnp.full((B,), ahead)), drafted, q, p)
        new = jnp.where(jnp.arange(ahead + 1)[None] < accepted[:, None], _right(drafted), extra[:, None])
        chosen = jnp.take_along_axis(p, new[..., None], axis=-1)[..., 0]
        count, done = _count(new, accepted + 1, length - s.drawn, stop)
        count = jnp.where(s.done, 0, count)
        places = jnp.where(jnp.arange(ahead + 1)[None] < count[:, None], s.drawn[:, None], blank.shape[1])
        places, rows = places + jnp.arange(ahead + 1)[None], jnp.arange(B)[:, None]
        # Both have read the block's first tokens up to the one before the last of the new ones.
        draft_trail = draft.step(draft_variables, s.draft, block)[1]
        last = jnp.take_along_axis(new, jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
        looked = jnp.where(s.done, 0, jnp.minimum(accepted + 1, ahead))
        return _State(
            target=target.commit(trail, count),
            draft=draft.commit(draft_trail, count),
            token=jnp.where(s.done, s.token, last),
            drawn=s.drawn + count,
            done=s.done | done,
            tokens=s.tokens.at[rows, places].set(new, mode="drop"),
            log_probs=s.log_probs.at[rows, places].set(chosen, mode="drop"),
            accepted=s.accepted + jnp.where(s.done, 0, accepted),
            drafted=s.drafted + looked,
        )

    state = jax.lax.while_loop(lambda s: ~s.done.all(), trip, state)
    return Speculated(
        state.tokens[:, :length], state.log_probs[:, :length], state.drawn, state.accepted, state.drafted
    )


def _right(drafted: Int[Array, "B D"]) -> Int[Array, "B D+1"]:
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
    """(`ahead` tokens drawn one after another, the log-probabilities each was drawn from)."""
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
    """Log-probabilities of draws number drawn, drawn + 1, ..."""
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
    """(how many drafted tokens are accepted, the token drawn after them), from log-probabilities.

    After a refusal that token is drawn from max(p - q, 0), normalised; after a whole draft from p.
    """
    ahead = drafted.shape[1]
    accept, again = (jax.vmap(jax.random.fold_in)(keys, jnp.full(keys.shape, n)) for n in range(2))
    u = jax.vmap(lambda key: jax.random.uniform(key, (ahead,)))(accept)
    of = lambda x: jnp.take_along_axis(x, drafted[..., None], axis=-1)[..., 0]
    # u < p / q, where q > 0: the token was drawn from it.
    good = jnp.log(u) < of(p[:, :ahead]) - of(q)
    accepted = jnp.cumprod(good, axis=1).sum(axis=1)
    at = lambda x: jnp.take_along_axis(x, accepted[:, None, None], axis=1)[:, 0]
    there = jnp.exp(at(p))
    rest = jnp.maximum(there - at(jnp.exp(jnp.pad(q, ((0, 0), (0, 1), (0, 0)), constant_values=-jnp.inf))), 0)
    # Equal distributions leave nothing but rounding: then p itself.
    rest = jnp.where(rest.sum(axis=-1, keepdims=True) > 0, rest, there)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, rest.shape[1:]))(again)
    return accepted, jnp.argmax(jnp.log(rest) + noise, axis=-1).astype(jnp.int32)


def _count(
    new: Int[Array, "B D+1"], count: Int[Array, " B"], left: Int[Array, " B"], stop: Stop
) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
    """(how many of the first `count` new tokens are written, whether the row ends with them)."""
    count = jnp.minimum(count, left)
    done = count >= left
    if stop.tokens:
        ends = stop.hit(new) & (jnp.arange(new.shape[1])[None] < count[:, None])
        stopped = ends.any(axis=1)
        count = jnp.where(stopped, jnp.argmax(ends, axis=1) + 1, count)
        done = done | stopped
    return count, done
