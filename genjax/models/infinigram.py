"""infinity-gram: predict the next token from the longest context that occurs in the training text.

Liu et al. 2024 (arXiv:2401.17377) use the counts after the longest context that occurs. Here these counts are
interpolated with those of the next shorter contexts, and below `order` with a modified Kneser-Ney n-gram, so
that every token has positive probability:

    p_l(w | c) = (n(c w) + s_l p_{l-1}(w | c)) / (n(c) + s_l),   s_l = strength * decay^(l - order)

The state is the text as it was read; `finish` sorts it into a suffix array. Exact likelihood.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import struct

from genjax.config import Natural, NotNegative, Positive, Range, Width, check
from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.counting import corpus, lookup, ngrams, suffixes
from genjax.counting.suffixes import Match, choose
from genjax.errors import ConfigError
from genjax.functional.losses import per_row
from genjax.sampling.rows import sampler
from genjax.views.sequences import Sequence


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure an infinity-gram.

    Attributes:
      order: n of the Kneser-Ney n-gram that models shorter contexts.
      mixed: number of longest contexts that are interpolated, each with the next shorter one.
      strength: number of observations of a context of length `order` that weigh as much as the shorter one.
      decay: factor on `strength` for every further token: a long match is seldom accidental.
      depth: longest context that is searched for (time grows with it, memory does not); None for the length
        of a row.
      end: the token that ends a document; "eos" for the tokenizer's own, None for running text (see
        models/ngram.py).
    """

    order: Annotated[int, Range(least=1, most=1000)] = 6
    mixed: Annotated[int, Range(least=1, most=1000)] = 4
    strength: Positive = 200.0
    decay: NotNegative = 0.8
    depth: Width | None = 64
    end: Natural | Literal["eos"] | None = None

    def __post_init__(self):
        check(self)
        if self.depth is not None and self.depth < self.order:
            raise ConfigError(
                f"model.depth={self.depth} is below order {self.order}", "raise model.depth, or use an ngram"
            )


LEAST = 0.05
"""The smallest weight of the shorter context: it keeps every probability positive after long matches."""


@struct.dataclass
class Finished:
    """Hold the text sorted twice: as smoothed n-grams and as a suffix array."""

    index: ngrams.Index
    suffixes: suffixes.Suffixes


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """Build an infinity-gram of text. Player "model" has no parameters; read in one pass (data.order="once").

    Raises:
      ConfigError: the data is not text, or the number of its rows is not known.
    """
    del stages
    sequence = Sequence.of(spec)
    if not sequence.text:
        raise ConfigError("an infinity-gram reads text only", "choose text data, or the model ngram")
    if spec.rows < 1:
        raise ConfigError("an infinity-gram needs the number of training rows", "give Spec.rows")
    m = _Infinigram(config, spec, sequence, corpus.ending(config.end, spec))
    decoder = Decoder(m.start, m.step, m.commit)
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective, rowwise=False)},
        carry=m.carry,
        finish=m.finish,
        sample=sampler(decoder, sequence),
        likelihood=m.likelihood,
        decoder=decoder,
    )


@dataclasses.dataclass(frozen=True)
class _Infinigram:
    """Implement the contract. A context is its nodes in the n-gram tree and its intervals in the array."""

    config: Config
    spec: Spec
    sequence: Sequence
    end: int | None

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        state = corpus.empty(self.sequence, self.spec)
        return Variables(params={"model": {}}, state=state, frozen=frozen)

    def finish(self, variables: Variables) -> Variables:
        return variables.replace(state=self.finished(variables))

    def finished(self, variables: Variables) -> Finished:
        """Return the sorted text: the state itself if it is finished."""
        state = variables.state
        levels = self.sequence.levels
        if isinstance(state, Finished):
            return state
        text = corpus.stream(state, self.end)
        index = ngrams.build(text, self.config.order, levels, "kneser_ney", 1.0)
        return Finished(index, suffixes.build(corpus.grams(text, levels), levels))

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        if step is None:
            nats, mask, _ = self.nats(variables, batch)
            return Mean.of(nats, mask), Aux(variables.state)
        return corpus.learn(variables.state, batch, self.sequence)

    # --- contexts ----------------------------------------------------------------------------------

    def unread(self, num: int) -> Tree:
        """Return the empty context of `num` texts."""
        return {
            "place": lookup.unknown(self.config.order, num),
            "match": suffixes.nothing(num, self.config.depth or self.sequence.length),
        }

    def carry(self, batch: Batch) -> Tree:
        num = batch["mask"].shape[0]
        return {**self.unread(num), **corpus.unread(num)}

    def advance(
        self, s: suffixes.Suffixes, match: Match, token: jax.Array, fresh: jax.Array | None
    ) -> tuple[Match, jax.Array]:
        """Read a token of each row: (the new contexts, the counts of the token after the previous ones)."""
        opening = suffixes.opening(s, match)
        if fresh is not None:
            match = choose(fresh, opening, match)
        after, seen = suffixes.extend(s, match, token)
        if self.end is not None:
            after = choose(token == self.end, opening, after)
        return after, seen

    def mixture(self, match: Match) -> tuple[jax.Array, jax.Array]:
        """Return (lengths of the contexts to interpolate, shortest first; True for those that count)."""
        longest = (match.count > 0).sum(-1)
        lengths = jnp.stack([longest - k for k in reversed(range(self.config.mixed))], axis=-1)
        return jnp.maximum(lengths, 1), lengths >= self.config.order

    def weight(self, lengths: jax.Array) -> jax.Array:
        """Return s_l: the weight of the next shorter context, in observations."""
        c = self.config
        return jnp.maximum(c.strength * c.decay ** (lengths.astype(jnp.float32) - c.order), LEAST)

    # --- likelihood --------------------------------------------------------------------------------

    def nats(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array, Tree]:
        """Return (nats of every target, their mask, the carry before the last target)."""
        f = self.finished(variables)
        carry = batch.get("carry") or self.carry(batch)
        inputs, targets, mask = self.sequence.encode(batch)
        tokens = jnp.concatenate([inputs, targets[:, -1:]], axis=1)
        forget, fresh, last = corpus.beginnings(batch, tokens, carry)
        unread = self.unread(tokens.shape[0])
        place = jnp.where(forget[:, None], unread["place"], carry["place"])
        match = choose(forget, unread["match"], carry["match"])

        places, grams = lookup.read(f.index, place, tokens, fresh, self.end)
        p = lookup.probability(f.index, places[:, :-1], grams[:, 1:], self.sequence.levels)
        match, lengths, total, seen = self.counts(f.suffixes, match, tokens, fresh)
        weight = self.weight(lengths)
        for k in range(self.config.mixed):
            p = (seen[..., k] + weight[..., k] * p) / (total[..., k] + weight[..., k])
        return -jnp.log(p), mask, {"place": places[:, -2], "match": match, **last}

    def counts(
        self, s: suffixes.Suffixes, match: Match, tokens: jax.Array, fresh: jax.Array | None
    ) -> tuple[Match, jax.Array, jax.Array, jax.Array]:
        """Read rows of T + 1 tokens.

        Returns:
          (contexts before the last token; for each of the last T tokens: the lengths l of the contexts to
          interpolate, n(c) and n(c w), each B x T x mixed).
        """

        def read(state, xs):
            match, _ = state
            token, new = xs
            lengths, used = self.mixture(match)
            after, seen = self.advance(s, match, token, new)
            total, seen = (jnp.take_along_axis(x, lengths - 1, axis=1) for x in (match.count, seen))
            return (after, match), (lengths, jnp.where(used, total, 0), jnp.where(used, seen, 0))

        match, _ = self.advance(s, match, tokens[:, 0], None if fresh is None else fresh[:, 0])
        rest = tokens[:, 1:].T, None if fresh is None else fresh[:, 1:].T
        (_, before), found = jax.lax.scan(read, (match, match), rest)
        lengths, total, seen = (x.swapaxes(0, 1).astype(jnp.float32) for x in found)
        return before, lengths, total, seen

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Tree]:
        """Compute the nats and the count of tokens of every row; return the carry if one was given."""
        nats, mask, carry = self.nats(variables, batch)
        return per_row(nats, mask), carry if batch.get("carry") else {}

    # --- decoding ----------------------------------------------------------------------------------

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> Tree:
        return self.unread(num)

    def step(self, variables: Variables, cache: Tree, tokens: jax.Array) -> tuple[jax.Array, Tree]:
        f = self.finished(variables)
        levels = self.sequence.levels
        places, _ = lookup.read(f.index, cache["place"], tokens, None, self.end)

        def read(match: Match, token: jax.Array):
            after, _ = self.advance(f.suffixes, match, token, None)
            return after, after

        _, matches = jax.lax.scan(read, cache["match"], tokens.T)
        matches = jax.tree.map(lambda x: x.swapaxes(0, 1), matches)
        p = lookup.distribution(f.index, places, levels)
        p = self.mix(f.suffixes, matches, p)
        trail = {"place": places, "match": matches}
        join = lambda old, new: jnp.concatenate([old[:, None], new], axis=1)
        return jnp.log(p), jax.tree.map(join, cache, trail)

    def mix(self, s: suffixes.Suffixes, match: Match, p: jax.Array) -> jax.Array:
        """Interpolate the distributions p (B x T x V) of the n-gram with those of the longest contexts."""
        lengths, used = self.mixture(match)
        low, high = (jnp.take_along_axis(x, lengths - 1, axis=-1) for x in (match.low, match.high))
        contexts = (low, jnp.where(used, high, low), lengths)

        def add(p: jax.Array, context: tuple[jax.Array, ...]):
            low, high, depth = context
            counts = suffixes.followers(s, low, high, depth, p.shape[-1])
            weight = self.weight(depth)[:, None]
            return (counts + weight * p) / (counts.sum(-1, keepdims=True) + weight), None

        # One context length after another: a scan keeps one distribution per row in memory.
        one_by_one = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0).reshape(self.config.mixed, -1), contexts)
        mixed, _ = jax.lax.scan(add, p.reshape(-1, p.shape[-1]), one_by_one)
        return mixed.reshape(p.shape)

    def commit(self, trail: Tree, count: jax.Array) -> Tree:
        return jax.tree.map(lambda x: jnp.take_along_axis(x, count[:, None, None], axis=1)[:, 0], trail)
