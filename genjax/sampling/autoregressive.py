"""Draw from any `core.Decoder`: n-gram, RNN, GPT, T5. sampling/generation.py has the compiled parts.

`generate` draws whole rows in one compiled program, `stream` the same draws chunk by chunk. `guide` applies
classifier-free guidance to a decoder. `sampler` builds a `Model.sample` from them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.config import Count, Natural, NotNegative, Positive, Probability, Share
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
    stop: tuple[int, ...] = (),
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
      stop: tokens that end a row; the loop ends with the last row.
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
    stop: tuple[int, ...],
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
    if frames and (stop or constraint is not None):
        raise ConfigError("frames have no stop tokens and no constraints", "leave both out")
    if constraint is not None and min_length:
        raise ConfigError(
            "min_length cannot be combined with a constraint", "put the least length into the constraint"
        )
    if constraint is not None and constraint.fewest > length:
        raise ConfigError(
            f"the constraint accepts nothing of at most {length} tokens",
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


def sampler(decoder: Decoder, sequence: View) -> Callable[..., Batch]:
    """Return a `Model.sample` over `generate`: rows in the form of the data, given labels or beginnings.

    See `Sequence.prefix` for its prompt and `_Sampler.sample` for its options.
    """
    return _Sampler(decoder, sequence).sample


class _Given(NamedTuple):
    """Hold the beginnings of rows: (tokens, tokens per row, start tokens among them)."""

    tokens: Int[Array, "B P ..."]
    lengths: Int[Array, " B"]
    starts: int


class _Rule(NamedTuple):
    """Hold the options of a sampler beside its policy; `length` is that of whole rows."""

    length: int
    stop: tuple[int, ...]
    pad: int
    min_length: int
    constraint: Constraint | None
    beams: int
    length_penalty: float


@dataclasses.dataclass(frozen=True)
class _Sampler:
    """Sample whole rows from a decoder of sequences."""

    decoder: Decoder
    sequence: View

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        temperature: NotNegative = 1.0,
        top_k: Count | None = None,
        top_p: Probability | None = None,
        min_p: Share | None = None,
        typical_p: Probability | None = None,
        repetition_penalty: Positive = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        guidance: float = 1.0,
        length: Count | None = None,
        stop: Natural | tuple[Natural, ...] = (),
        pad: Natural = 0,
        min_length: Natural = 0,
        constraint: Constraint | None = None,
        beams: Count = 1,
        length_penalty: float = 1.0,
    ) -> Batch:
        """Draw rows. If rows may end early, the column LENGTH counts the tokens of each, prompt included.

        Args:
          temperature, top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty,
            presence_penalty: see `logits.Truncation`. Frames have a temperature alone.
          guidance: scale of classifier-free guidance; 1 is none.
          length: tokens of a running row, prompt included; that of the data if None.
          stop: a token or several that end a row.
          pad, min_length, constraint: see `generate`; the constraint applies after the prompt.
          beams: more than 1 searches for the most probable row, with `length_penalty`, and draws nothing.

        Raises:
          ConfigError: an option is out of range or does not fit the data, or the prompt is too long.
        """
        narrow = (top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty)
        policy = self._policy(temperature, narrow, beams)
        stops = (stop,) if isinstance(stop, int) else tuple(stop)
        total = _total(self.sequence, length)
        rule = _Rule(total, stops, pad, min_length, constraint, beams, length_penalty)
        given = _Given(*self.sequence.prefix(prompt, keys.shape[0]))
        count = given.tokens.shape[1] - given.starts
        check_prompt(count, total)
        # Ragged rows draw as many tokens as the shortest prompt could need, and are cut. A row that must
        # match a constraint cannot be cut: every row then draws what the longest prompt leaves.
        ragged = columns.LENGTH in prompt and constraint is None
        need = total - (0 if ragged else count)
        condition = self.sequence.condition(prompt)
        if need == 0:
            return {**self.sequence.decode(given.tokens[:, given.starts :]), **condition}
        decoder = self.decoder if guidance == 1.0 else self._guided(float(guidance))
        return {**self._rows(decoder, variables, keys, given, policy, rule, need, ragged), **condition}

    def _rows(
        self,
        decoder: Decoder,
        variables: Variables,
        keys: Keys,
        given: _Given,
        policy: Policy,
        rule: _Rule,
        need: int,
        ragged: bool,
    ) -> Batch:
        """Draw `need` tokens after the prompts and return whole rows."""
        ends = bool(rule.stop) or rule.constraint is not None
        known = given.lengths - given.starts
        shared = {
            "length": need,
            "lengths": given.lengths,
            "stop": rule.stop,
            "pad": rule.pad,
            "min_length": rule.min_length,
            "constraint": rule.constraint,
        }
        if rule.beams > 1:
            search = {**shared, "beams": rule.beams, "length_penalty": rule.length_penalty}
            found = beam_search(decoder, variables, given.tokens, **search)
            drawn = found.tokens[:, 0]
            count = found.lengths[:, 0]
        else:
            limit = rule.length - known if ends and ragged else None
            out = generate(decoder, variables, keys, given.tokens, policy=policy, limit=limit, **shared)
            drawn = out.tokens
            count = out.lengths
        rows = _join(given.tokens[:, given.starts :], drawn, known, rule.length, rule.pad)
        found_rows = self.sequence.decode(rows)
        if not ends:
            return found_rows
        return {**found_rows, columns.LENGTH: jnp.minimum(known + count, rule.length)}

    def _policy(self, temperature: float, narrow: tuple[Any, ...], beams: int) -> Policy:
        """Return the policy; frames accept a temperature alone."""
        if not isinstance(self.sequence, Frames):
            return Truncation(temperature, *narrow)
        if narrow != (None, None, None, None, 1.0, 0.0, 0.0) or beams > 1:
            raise ConfigError("frames are drawn with a temperature alone", "leave the other options out")
        return Bernoulli(temperature)

    @functools.cached_property
    def _guided(self) -> Callable[[float], Decoder]:
        # A decoder is a static argument of compiled functions: one object per scale compiles once.
        return functools.lru_cache(maxsize=None)(
            lambda scale: guide(self.decoder, scale, self.sequence.unconditional)
        )


def _total(sequence: View, length: int | None) -> int:
    """Return the tokens of a row: those of the data, or for running rows the `length` asked for."""
    total = sequence.length + sequence.text
    if length is None or length == total:
        return total
    if not sequence.text:
        raise ConfigError(f"a row has {total} values, and length is {length}", "leave length out")
    return length


def _join(
    prompts: Int[Array, "B P ..."],
    drawn: Int[Array, "B N ..."],
    lengths: Int[Array, " B"],
    total: int,
    pad: int,
) -> Int[Array, "B total ..."]:
    """Join the first `lengths` prompt tokens of each row, its drawn tokens, and padding."""
    at = jnp.arange(total)[None, :] - lengths[:, None]
    rows = jnp.arange(at.shape[0])[:, None]
    wide = lambda mask: mask.reshape(*mask.shape, *(1,) * (drawn.ndim - 2))
    new = drawn[rows, jnp.clip(at, 0, drawn.shape[1] - 1)]
    new = jnp.where(wide(at < drawn.shape[1]), new, pad)
    if prompts.shape[1] == 0:
        return new
    old = prompts[rows, jnp.clip(jnp.arange(total), 0, prompts.shape[1] - 1)[None]]
    return jnp.where(wide(at < 0), old, new)
