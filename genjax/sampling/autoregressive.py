"""One compiled decoding loop for every `core.Decoder`: n-gram, RNN, GPT, T5.

`generate` = `begin` (read the prompts, draw the first token) + `advance` (a scan of step, keep, draw). What
is carried between them is a `Generation`, so output can be streamed in chunks, branched (x[rows]) or shared
between continuations of one prefix.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Decoder, Keys, Tree, Variables
from genjax.errors import ConfigError
from genjax.functional.sequences import Sequence
from genjax.sampling.logits import Truncation, draw


@struct.dataclass
class Generation:
    """Where a decoding stands; every leaf is batch-first.

    Attributes:
      cache: the decoder's, after all tokens but the last drawn.
      token: the last drawn, not yet read by the decoder.
      drawn: how many tokens each row has drawn: its n-th draw uses fold_in(key, n).
    """

    cache: Tree
    token: Int[Array, " B"]
    drawn: Int[Array, " B"]


class Tokens(NamedTuple):
    """What was drawn, and its log-probability under the narrowed distribution it was drawn from."""

    tokens: Int[Array, "B N"]
    log_probs: Float[Array, "B N"]


@functools.partial(jax.jit, static_argnames=("decoder", "length", "policy"))
def begin(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P"],
    lengths: Int[Array, " B"],
    prompt: Batch,
    *,
    length: int,
    policy: Truncation,
) -> tuple[Generation, Tokens]:
    """Reads each row's first `lengths` of `tokens` at once and draws its next one.

    Args:
      prompt: what the decoder's `start` may condition on beside the tokens; {} for nothing.
      length: tokens that the cache must hold beside the prompt's.
    """
    num, width = tokens.shape
    cache = decoder.start(variables, prompt, num, width + length)
    logits, trail = decoder.step(variables, cache, tokens)
    last = jnp.take_along_axis(logits, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return _draw(keys, last, decoder.keep(trail, lengths), jnp.zeros((num,), jnp.int32), policy)


@functools.partial(jax.jit, static_argnames=("decoder", "length", "policy"))
def advance(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    generation: Generation,
    *,
    length: int,
    policy: Truncation,
) -> tuple[Generation, Tokens]:
    """`length` more tokens of each row, as one scan."""
    one = jnp.ones_like(generation.drawn)

    def body(g: Generation, _):
        logits, trail = decoder.step(variables, g.cache, g.token[:, None])
        g, out = _draw(keys, logits[:, 0], decoder.keep(trail, one), g.drawn, policy)
        return g, (out.tokens[:, 0], out.log_probs[:, 0])

    generation, out = jax.lax.scan(body, generation, None, length=length)
    return generation, Tokens(out[0].T, out[1].T)


def _draw(
    keys: Keys, logits: Float[Array, "B V"], cache: Tree, drawn: Int[Array, " B"], policy: Truncation
) -> tuple[Generation, Tokens]:
    log_probs = policy(logits)
    if policy.temperature == 0:
        token = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
    else:
        token = draw(jax.vmap(jax.random.fold_in)(keys, drawn), log_probs)
    chosen = jnp.take_along_axis(log_probs, token[:, None], axis=-1)
    return Generation(cache, token, drawn + 1), Tokens(token[:, None], chosen)


@functools.partial(jax.jit, static_argnames=("decoder", "length", "policy"))
def _generate(decoder, variables, keys, tokens, lengths, prompt, *, length, policy) -> Tokens:
    generation, first = begin(
        decoder, variables, keys, tokens, lengths, prompt, length=length - 1, policy=policy
    )
    _, rest = advance(decoder, variables, keys, generation, length=length - 1, policy=policy)
    return Tokens(*(jnp.concatenate(pair, axis=1) for pair in zip(first, rest, strict=True)))


def generate(
    decoder: Decoder,
    variables: Variables,
    keys: Keys,
    tokens: Int[Array, "B P"],
    *,
    length: int,
    lengths: Int[Array, " B"] | None = None,
    prompt: Batch | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tokens:
    """`length` new tokens for each row: prefill, then one compiled scan.

    Row i is a function of keys[i], its prompt and the variables alone: not of the other rows, nor of how
    many there are (to rounding), nor of the padding of ragged prompts.

    Args:
      tokens: the prompts, at least one token each, left-aligned.
      lengths: how many tokens of each row are its prompt; all P where None.
      prompt: what else the decoder conditions on.
      temperature, top_k, top_p: see `logits.Truncation`; static, a new value compiles anew.

    Raises:
      ConfigError: for a length below 1, an empty prompt or knobs out of range.
    """
    if length < 1 or tokens.shape[1] < 1:
        raise ConfigError(
            f"nothing to do for a prompt of {tokens.shape[1]} tokens and a length of {length}",
            "give a prompt of at least one token and a length of at least 1",
        )
    if lengths is None:
        lengths = jnp.full((tokens.shape[0],), tokens.shape[1], jnp.int32)
    return _generate(
        decoder,
        variables,
        keys,
        tokens,
        lengths,
        {} if prompt is None else prompt,
        length=length,
        policy=Truncation(temperature, top_k, top_p),
    )


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

    def keep(trail, count):
        return tuple(decoder.keep(t, count) for t in trail)

    return Decoder(start, step, keep)


def sampler(decoder: Decoder, sequence: Sequence) -> Callable[..., Batch]:
    """A `Model.sample` over `generate`: rows of the data's form, from labels, beginnings or nothing.

    Its knobs: temperature, top_k, top_p, guidance (1 is none), and for text `length`, the tokens of a row
    that come back, prompt included (the data's own by default). Its prompt: see `Sequence.prefix`.
    """
    guided = functools.lru_cache(maxsize=None)(lambda scale: guide(decoder, scale, sequence.unconditional))

    def sample(
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        length: int | None = None,
    ) -> Batch:
        num = keys.shape[0]
        tokens, lengths, starts = sequence.prefix(prompt, num)
        total = sequence.length + sequence.text
        if length is not None and length != total:
            if not sequence.text:
                raise ConfigError(f"length {length} of an image of {total} pixels", "leave length out")
            total = length
        given = tokens.shape[1] - starts
        if given > total:
            raise ConfigError(f"a prompt of {given} tokens for rows of {total}", "shorten the prompt")
        # Ragged rows draw as many tokens as the shortest prompt could need; what is beyond is cut.
        need = total - (0 if "length" in prompt else given)
        if need == 0:
            return {**sequence.decode(tokens[:, starts:]), **_echo(prompt)}
        drawn = generate(
            decoder if guidance == 1.0 else guided(float(guidance)),
            variables,
            keys,
            tokens,
            length=need,
            lengths=lengths,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        ).tokens
        rows = _join(tokens[:, starts:], drawn, lengths - starts, total)
        return {**sequence.decode(rows), **_echo(prompt)}

    return sample


def _join(
    prompts: Int[Array, "B P"], drawn: Int[Array, "B N"], lengths: Int[Array, " B"], total: int
) -> Int[Array, "B total"]:
    """Each row's first `lengths` prompt tokens, then its drawn ones."""
    at = jnp.arange(total)[None, :] - lengths[:, None]
    new = jnp.take_along_axis(drawn, jnp.clip(at, 0, drawn.shape[1] - 1), axis=1)
    if prompts.shape[1] == 0:
        return new
    old = jnp.take_along_axis(
        prompts,
        jnp.broadcast_to(jnp.clip(jnp.arange(total), 0, prompts.shape[1] - 1)[None], new.shape),
        axis=1,
    )
    return jnp.where(at < 0, old, new)


def _echo(prompt: Batch) -> Batch:
    return {"label": prompt["label"]} if "label" in prompt else {}
