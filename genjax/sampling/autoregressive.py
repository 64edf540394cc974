"""Drawing from any `core.Decoder`: n-gram, RNN, GPT, T5. The machine below is sampling/generation.py.

`generate` draws whole rows in one compiled program, `stream` the same draws chunk by chunk, `guide` leans a
decoder on its condition, and `sampler` makes a `Model.sample` of all this.
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
from genjax.sampling.beam import beam_search
from genjax.sampling.constraints import Constraint
from genjax.sampling.generation import Prefix, Stop, Tokens, advance, begin, extend, read
from genjax.sampling.logits import Bernoulli, Policy, Truncation
from genjax.views import columns
from genjax.views.frames import Frames, View
from genjax.views.sequences import check_prompt


def prefix(
    decoder: Decoder,
    variables: Variables,
    tokens: Int[Array, "B P ..."],
    *,
    room: int,
    lengths: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
) -> Prefix:
    """Reads what many continuations share, once: give it to `generate` as `prefix`, its rows as `rows` wants.

    Args:
      room: how many tokens, of longer prompts and drawn, may follow.
      tokens, lengths, prompt: as of `generate`.

    Raises:
      ConfigError: for no tokens.
    """
    if tokens.shape[1] < 1:
        raise ConfigError("a prefix of no tokens", "give at least one")
    return read(decoder, variables, tokens, _whole(tokens, lengths), prompt or {}, room=room)


def _whole(tokens: jax.Array, lengths: jax.Array | None) -> jax.Array:
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
    *,
    length,
    policy,
    stop,
    even,
) -> Tokens:
    start = _start(decoder, variables, tokens, lengths, prompt, prefix, length - 1)
    g, first = begin(keys, start, limit, policy=policy, stop=stop, constraint=constraint)
    if length == 1:
        return first
    how = {"length": length - 1, "policy": policy, "stop": stop, "constraint": constraint, "even": even}
    g, rest = advance(decoder, variables, keys, g, **how)
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
    """The prompts, read: after `prefix` where there is one."""
    if prefix is None:
        return read(decoder, variables, tokens, lengths, prompt, room=room)
    more = tokens is not None and tokens.shape[1] > 0
    start: Prefix = extend(decoder, variables, prefix, tokens, lengths) if more else prefix
    if start.room < room:
        raise ConfigError(
            f"a prefix with room for {start.room} more tokens, where {room} are needed",
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
    stop: tuple[int, ...] = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
    **knobs: Any,
) -> Tokens:
    """Up to `length` new tokens for each row: prefill, then one compiled loop.

    Row i is a function of keys[i], its prompt and the variables alone: not of the other rows, nor of how
    many there are (to rounding), nor of the padding of ragged prompts.

    Args:
      tokens: the prompts, at least one token each, left-aligned; after a `prefix` they may be None, or of
        length 0 in some rows. Frames (B x P x D) where the policy draws frames.
      lengths: how many tokens of each row are its prompt; all P where None.
      limit: how many tokens each row may draw, at most `length`; None for all.
      prompt: what else the decoder conditions on.
      prefix: what was read before (see `prefix`), a row for each key.
      policy: how a token is drawn; `logits.Truncation(**knobs)` where None.
      stop: tokens that end a row; the loop ends when all rows have.
      pad: what is written after a row's end.
      min_length: no stop token is drawn among a row's first `min_length`.
      constraint: what the rows must match (see `constraints`).
      knobs: temperature, top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty and
        presence_penalty, as of `logits.Truncation`; static, a new value compiles anew.

    Raises:
      ConfigError: for a length below 1, an empty prompt, knobs out of range, a constraint that nothing of
        this length matches, or a prefix without room.
    """
    policy, ends = _plan(length, tokens, prefix, policy, knobs, stop, pad, min_length, constraint)
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
    knobs: dict[str, Any],
    stop: tuple[int, ...],
    pad: int,
    min_length: int,
    constraint: Constraint | None,
) -> tuple[Policy, Stop]:
    """The policy and the stop rule, once they were found to fit together."""
    width = 0 if tokens is None else tokens.shape[1]
    if length < 1 or (width < 1 and prefix is None):
        raise ConfigError(
            f"nothing to do for a prompt of {width} tokens and a length of {length}",
            "give a prompt of at least one token and a length of at least 1",
        )
    if policy is not None and knobs:
        raise ConfigError(f"a policy beside {', '.join(knobs)}", "set them in the policy")
    if policy is None:
        try:
            policy = Truncation(**knobs)
        except TypeError as error:
            raise ConfigError(f"generate: {error}", "see logits.Truncation for the knobs") from error
    frames = not isinstance(policy, Truncation)
    if frames and (stop or constraint is not None):
        raise ConfigError("a stop token or a constraint for frames", "leave both out")
    if constraint is not None and min_length:
        raise ConfigError("min_length beside a constraint", "put the least length into the constraint")
    if constraint is not None and constraint.fewest > length:
        raise ConfigError(
            f"nothing that the constraint accepts can be written in {length} tokens",
            f"give a length of at least {constraint.fewest}",
        )
    return policy, Stop(tuple(int(s) for s in stop), pad, min_length)


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
    stop: tuple[int, ...] = (),
    pad: int = 0,
    min_length: int = 0,
    constraint: Constraint | None = None,
    **knobs: Any,
) -> Iterator[Tokens]:
    """The draws of `generate`, as they are drawn: the first token alone, then `chunk` at a time.

    A chunk's `lengths` count its own tokens. Chunks end when all rows have. Every chunk but the first is the
    same compiled program; the last is cut to `length`. Arguments and errors are those of `generate`.
    """
    policy, ends = _plan(length, tokens, prefix, policy, knobs, stop, pad, min_length, constraint)
    if chunk < 1:
        raise ConfigError(f"chunks of {chunk} tokens", "give at least 1")
    limit = jnp.full(keys.shape, length, jnp.int32) if limit is None else jnp.minimum(limit, length)
    given = None if tokens is None else _whole(tokens, lengths)
    # Whole chunks: lengths that need as many share their programs. A prefix has the room that it has.
    room = length - 1 if prefix else -(-(length - 1) // chunk) * chunk
    start = _start(decoder, variables, tokens, given, prompt or {}, prefix, room)
    g, first = begin(keys, start, limit, policy=policy, stop=ends, constraint=constraint)
    yield first
    how = {"length": chunk, "policy": policy, "stop": ends, "constraint": constraint}
    for at in range(1, length, chunk):
        if bool(g.done.all()):
            return
        g, out = advance(decoder, variables, keys, g, **how)
        size = min(chunk, length - at)
        yield Tokens(out.tokens[:, :size], out.log_probs[:, :size], out.lengths)


def guide(decoder: Decoder, scale: float, unconditional: Callable[[jax.Array], jax.Array]) -> Decoder:
    """Classifier-free guidance on logits: u + scale * (c - u) (Ho & Salimans 2022, arXiv:2207.12598).

    Args:
      scale: 1 is the conditional model, 0 the unconditional one, above 1 exaggerates the condition.
      unconditional: input tokens -> the same without their condition.
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


def sampler(decoder: Decoder, sequence: View) -> Callable[..., Batch]:
    """A `Model.sample` over `generate`: rows of the data's form, from labels, beginnings or nothing.

    Its prompt: see `Sequence.prefix`. Its knobs: temperature, top_k, top_p, min_p, typical_p and penalties
    as of `logits.Truncation` (frames: a temperature alone); guidance (1 is none); for running rows `length`,
    how many tokens of a row come back, prompt included (the data's own by default); `stop` (a token or
    several), `pad` and `min_length`; `constraint`, which every row matches from its prompt on; and `beams`:
    more than 1 searches for the likeliest row with `length_penalty`, and draws nothing. Where rows may end
    before their length, `length` comes back too: how many tokens of each count, prompt included.
    """
    guided = functools.lru_cache(maxsize=None)(lambda scale: guide(decoder, scale, sequence.unconditional))
    frames = isinstance(sequence, Frames)

    def sample(
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        typical_p: float | None = None,
        repetition_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        guidance: float = 1.0,
        length: int | None = None,
        stop: int | tuple[int, ...] = (),
        pad: int = 0,
        min_length: int = 0,
        constraint: Constraint | None = None,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> Batch:
        narrow = (top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty)
        stop = (stop,) if isinstance(stop, int) else tuple(stop)
        if frames and (narrow != (None, None, None, None, 1.0, 0.0, 0.0) or beams > 1):
            raise ConfigError("frames are drawn with a temperature alone", "leave the other knobs out")
        policy = Bernoulli(temperature) if frames else Truncation(temperature, *narrow)
        tokens, lengths, starts = sequence.prefix(prompt, keys.shape[0])
        total = _total(sequence, length)
        given = tokens.shape[1] - starts
        check_prompt(given, total)
        # Ragged rows draw as many tokens as the shortest prompt could need; what is beyond is cut. What must
        # match is not cut: there every row draws as many as the longest prompt leaves room for.
        ragged = columns.LENGTH in prompt and constraint is None
        need = total - (0 if ragged else given)
        if need == 0:
            return {**sequence.decode(tokens[:, starts:]), **sequence.condition(prompt)}
        ends = bool(stop) or constraint is not None
        what = {"length": need, "lengths": lengths, "stop": stop, "pad": pad, "min_length": min_length}
        source = decoder if guidance == 1.0 else guided(float(guidance))
        if beams > 1:
            how = {**what, "beams": beams, "length_penalty": length_penalty, "constraint": constraint}
            found = beam_search(source, variables, tokens, **how)
            drawn, count = found.tokens[:, 0], found.lengths[:, 0]
        else:
            limit = total - (lengths - starts) if ends and ragged else None
            how = {**what, "policy": policy, "limit": limit, "constraint": constraint}
            drawn, _, count = generate(source, variables, keys, tokens, **how)
        rows = _join(tokens[:, starts:], drawn, lengths - starts, total, pad)
        out = {**sequence.decode(rows), **sequence.condition(prompt)}
        return {**out, columns.LENGTH: jnp.minimum(lengths - starts + count, total)} if ends else out

    return sample


def _total(sequence: View, length: int | None) -> int:
    """How many tokens a row has: the data's own, or for running rows the `length` asked for."""
    total = sequence.length + sequence.text
    if length is None or length == total:
        return total
    if not sequence.text:
        raise ConfigError(f"length {length} of an image of {total} pixels", "leave length out")
    return length


def _join(
    prompts: Int[Array, "B P ..."],
    drawn: Int[Array, "B N ..."],
    lengths: Int[Array, " B"],
    total: int,
    pad: int,
) -> Int[Array, "B total ..."]:
    """Each row's first `lengths` prompt tokens, then its drawn ones, then padding."""
    at = jnp.arange(total)[None, :] - lengths[:, None]
    rows = jnp.arange(at.shape[0])[:, None]
    wide = lambda mask: mask.reshape(*mask.shape, *(1,) * (drawn.ndim - 2))
    new = drawn[rows, jnp.clip(at, 0, drawn.shape[1] - 1)]
    new = jnp.where(wide(at < drawn.shape[1]), new, pad)
    if prompts.shape[1] == 0:
        return new
    old = prompts[rows, jnp.clip(jnp.arange(total), 0, prompts.shape[1] - 1)[None]]
    return jnp.where(wide(at < 0), old, new)
