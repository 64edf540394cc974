"""Draw from any `core.Decoder`: n-gram, RNN, GPT, T5. sampling/generation.py has the compiled parts.

`generate` draws whole rows in one compiled program, `stream` the same draws chunk by chunk. `guide` applies
classifier-free guidance to a decoder. sampling/rows.py builds a `Model.sample` from them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.core import Batch, Decoder, Keys, Variables
from genjax.errors import ConfigError
from genjax.sampling.constraints import Constraint
from genjax.sampling.generation import Prefix, Stop, Tokens, advance, begin, extend, read
from genjax.sampling.logits import Policy, Truncation
from genjax.sampling.stops import StopText


def prefix(
    decoder: Decoder,
    variables: Variables,
    tokens: Int[Array, "B P ..."],
    *,
    room: int,
    lengths: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
) -> Prefix:
    """Read tokens that many continuations share, once; pass the result, or some of its rows, to `generate`.

    Args:
      room: tokens that may follow, of longer prompts and drawn ones together.
      tokens, lengths, prompt: see `generate`.

    Raises:
      ConfigError: there are no tokens.
    """
    if tokens.shape[1] < 1:
        raise ConfigError("a prefix has no tokens", "give at least one")
    return read(decoder, variables, tokens, _whole(tokens, lengths), prompt or {}, room=room)


def _whole(tokens: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """Return the lengths of the prompts; all tokens if none are given."""
    return jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32) if lengths is None else lengths


@functools.partial(jax.jit, static_argnames=("decoder", "length", "policy", "stop", "even"))
def _generate(
    decoder,
    variables,
    keys,
    tokens,
    lengths,
    prompt,
    prefix,
    limit,
    constraint,
    text,
    *,
    length,
    policy,
    stop,
    even,
) -> Tokens:
    start = _start(decoder, variables, tokens, lengths, prompt, prefix, length - 1)
    g, first = begin(keys, start, limit, policy=policy, stop=stop, constraint=constraint, text=text)
    if length == 1:
        return first
    how = {"length": length - 1, "policy": policy, "stop": stop, "even": even}
    g, rest = advance(decoder, variables, keys, g, constraint=constraint, text=text, **how)
    tokens, log_probs = (jnp.concatenate(pair, axis=1) for pair in zip(first[:2], rest[:2], strict=True))
    return Tokens(tokens, log_probs, first.lengths + rest.lengths)


def _start(
    decoder: Decoder,
    variables: Variables,
    tokens: jax.Array | None,
    lengths: jax.Array | None,
    prompt: Batch,
    prefix: Prefix | None,
    room: int,
) -> Prefix:
    """Read the prompts, after `prefix` if there is one."""
    if prefix is None:
        return read(decoder, variables, tokens, lengths, prompt, room=room)
    more = tokens is not None and tokens.shape[1] > 0
    start: Prefix = extend(decoder, variables, prefix, tokens, lengths) if more else prefix
    if start.room < room:
        raise ConfigError(
            f"the prefix has room for {start.room} more tokens, and {room} are needed",
            "read it with more room",
        )
    return start


def generate(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P ..."] | None,
    *,
    length: int,
    lengths: Int[Array, " B"] | None = None,
    limit: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
    prefix: Prefix | None = None,
    policy: Policy | None = None,
    stop: tuple[int, ...] | StopText = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
    **options: Any,
) -> Tokens:
    """Draw up to `length` new tokens for each row: read the prompts, then one compiled loop.

    Row i is a function of keys[i], its prompt and the variables alone. It does not depend on the other rows,
    on their number (up to rounding), or on the padding of ragged prompts.

    Args:
      tokens: the prompts, at least one token each, left-aligned; after a `prefix` they may be None, or of
        length 0 in some rows. Frames (B x P x D) if the policy draws frames.
      lengths: tokens of each row that belong to its prompt; all P if None.
      limit: tokens that each row may draw, at most `length`; `length` if None.
      prompt: other conditions of the decoder.
      prefix: tokens that were read before (see `prefix`), one row per key.
      policy: draws the tokens; `logits.Truncation(**options)` if None.
      stop: tokens that end a row, or a text that ends it (see `stops`); the loop ends with the last row.
      pad: token that is written after the end of a row.
      min_length: no stop token is drawn among the first `min_length` tokens of a row.
      constraint: language that the rows must match (see `constraints`).
      options: fields of `logits.Truncation`, if no policy is given. Static: a new value compiles again.

    Raises:
      ConfigError: a length below 1, an empty prompt, an option out of range, a constraint that no row of this
        length can match, or a prefix without enough room.
    """
    policy, ends = _plan(length, tokens, prefix, policy, options, stop, pad, min_length, constraint)
    even = limit is None and not stop and constraint is None
    limit = jnp.full(keys.shape, length, jnp.int32) if limit is None else jnp.minimum(limit, length)
    return _generate(
        decoder,
        variables,
        keys,
        tokens,
        None if tokens is None else _whole(tokens, lengths),
        prompt or {},
        prefix,
        limit,
        constraint,
        _text(stop),
        length=length,
        policy=policy,
        stop=ends,
        even=even,
    )


def _plan(
    length: int,
    tokens: jax.Array | None,
    prefix: Prefix | None,
    policy: Policy | None,
    options: dict[str, Any],
    stop: tuple[int, ...] | StopText,
    pad: int,
    min_length: int,
    constraint: Constraint | None,
) -> tuple[Policy, Stop]:
    """Return the policy and the stop rule, after checking that they fit together."""
    width = 0 if tokens is None else tokens.shape[1]
    if length < 1 or (width < 1 and prefix is None):
        raise ConfigError(
            f"nothing can be drawn for a prompt of {width} tokens and a length of {length}",
            "give a prompt of at least one token and a length of at least 1",
        )
    if policy is not None and options:
        raise ConfigError(f"both a policy and {', '.join(options)} are given", "set them in the policy")
    if policy is None:
        try:
            policy = Truncation(**options)
        except TypeError as error:
            raise ConfigError(f"generate: {error}", "see logits.Truncation for the options") from error
    frames = not isinstance(policy, Truncation)
    if frames and (stop or min_length or constraint is not None):
        raise ConfigError("frames have no stop, no min_length and no constraint", "leave them out")
    if constraint is not None and min_length:
        raise ConfigError(
            "min_length cannot be combined with a constraint", "put the least length into the constraint"
        )
    if constraint is not None and constraint.fewest > length:
        raise ConfigError(
            f"the constraint accepts nothing of at most {length} tokens",
            f"give a length of at least {constraint.fewest}",
        )
    text = _text(stop)
    if constraint is not None and text is not None:
        raise ConfigError(
            "a stop text cannot be combined with a constraint", "put the end into the constraint"
        )
    ends = () if isinstance(stop, StopText) else tuple(int(s) for s in stop)
    return policy, Stop(ends, pad, min_length)


def _text(stop: tuple[int, ...] | StopText) -> StopText | None:
    return stop if isinstance(stop, StopText) else None


def stream(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P ..."] | None,
    *,
    length: int,
    chunk: int = 16,
    lengths: Int[Array, " B"] | None = None,
    limit: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
    prefix: Prefix | None = None,
    policy: Policy | None = None,
    stop: tuple[int, ...] | StopText = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
    **options: Any,
) -> Iterator[Tokens]:
    """Yield the draws of `generate` while they are drawn: the first token alone, then `chunk` at a time.

    The `lengths` of a chunk count its own tokens. The chunks end with the last row. Every chunk but the first
    runs the same compiled program; the last is cut to `length`. Arguments and errors: see `generate`.
    """
    policy, ends = _plan(length, tokens, prefix, policy, options, stop, pad, min_length, constraint)
    if chunk < 1:
        raise ConfigError(f"chunk={chunk} tokens cannot be drawn", "give at least 1")
    limit = jnp.full(keys.shape, length, jnp.int32) if limit is None else jnp.minimum(limit, length)
    given = None if tokens is None else _whole(tokens, lengths)
    # Whole chunks: lengths with the same number of chunks share their programs. A prefix has a fixed room.
    room = length - 1 if prefix else -(-(length - 1) // chunk) * chunk
    start = _start(decoder, variables, tokens, given, prompt or {}, prefix, room)
    g, first = begin(keys, start, limit, policy=policy, stop=ends, constraint=constraint, text=_text(stop))
    yield first
    how = {"length": chunk, "policy": policy, "stop": ends, "constraint": constraint, "text": _text(stop)}
    for at in range(1, length, chunk):
        if bool(g.done.all()):
            return
        g, out = advance(decoder, variables, keys, g, **how)
        size = min(chunk, length - at)
        yield Tokens(out.tokens[:, :size], out.log_probs[:, :size], out.lengths)


def guide(decoder: Decoder, scale: float, unconditional: Callable[[jax.Array], jax.Array]) -> Decoder:
    """Apply classifier-free guidance to logits: u + scale * (c - u) (Ho & Salimans 2022, arXiv:2207.12598).

    Args:
      scale: 1 is the conditional model, 0 the unconditional one; above 1 strengthens the condition.
      unconditional: input tokens -> the same tokens without their condition.
    """

    def start(variables, prompt, num, length):
        return tuple(decoder.start(variables, prompt, num, length) for _ in range(2))

    def step(variables, cache, tokens):
        c, with_c = decoder.step(variables, cache[0], tokens)
        u, with_u = decoder.step(variables, cache[1], unconditional(tokens))
        c, u = (jax.nn.log_softmax(x.astype(jnp.float32), axis=-1) for x in (c, u))
        return u + scale * (c - u), (with_c, with_u)

    def commit(trail, count):
        return tuple(decoder.commit(t, count) for t in trail)

    return Decoder(start, step, commit)


def without(decoder: Decoder, tokens: tuple[int, ...]) -> Decoder:
    """Return a decoder that never writes these tokens."""

    def step(variables, cache, inputs):
        logits, trail = decoder.step(variables, cache, inputs)
        return logits.at[:, :, jnp.asarray(tokens, jnp.int32)].set(-1e30), trail

    return decoder._replace(step=step)
