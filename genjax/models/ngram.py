"""n-gram: the next token from counts of what followed its context. Learns by counting, in one pass.

For text the context is the last n - 1 tokens. For images it is the label and either the last n - 1 pixels or
the n - 1 nearest pixels above and to the left; pixels of a context may be rounded to a few grey levels while
what is predicted stays exact, so likelihoods are exact at any number of bins.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Play, Spec, Variables, across
from genjax.errors import ConfigError
from genjax.functional import ngrams
from genjax.functional.losses import per_row
from genjax.functional.sequences import Sequence
from genjax.sampling.autoregressive import sampler

CELLS = 2**28
"""The most counts that the tables may hold: 1 GiB of int32."""


@dataclasses.dataclass(frozen=True)
class Config:
    """An n-gram model.

    Attributes:
      order: n: a token is predicted from n - 1 others.
      context: which: "previous" takes the last in reading order, "nearest" the nearest pixels of the image
        that have been read (text has no other than the previous).
      bins: grey levels that a context's pixels are rounded to; None for all levels (and for text).
      position: the pixel's place is part of the context.
      smoothing: "backoff" mixes every context with its shorter ones, "additive" the longest with the uniform.
      strength: "additive": what is added to every count; "backoff": how many observations of a context
        weigh as much as the shorter context.
    """

    order: int = 4
    context: Literal["previous", "nearest"] = "previous"
    bins: int | None = None
    position: bool = False
    smoothing: Literal["backoff", "additive"] = "backoff"
    strength: float = 1.0

    def __post_init__(self):
        if self.order < 1:
            raise ConfigError(f"an n-gram of order {self.order}", "order 1 has no context, 2 is a bigram")
        if self.strength <= 0:
            raise ConfigError(
                f"smoothing strength {self.strength} leaves tokens without probability", "give more than 0"
            )


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """An n-gram for text or quantised images. Player "model" has no parameters; exact likelihood.

    Counts are divided by the passes over the data, so that a second pass changes nothing. The training loss
    is that of predicting each batch before it is counted: it depends on how rows are divided into batches,
    which the counts do not.

    Raises:
      ConfigError: where the data has no discrete element, or the tables would be too large.
    """
    del stages
    sequence = Sequence.of(spec)
    contexts = _contexts(config, sequence)
    longest = len(contexts.tables) - 1
    used = range(longest + 1) if config.smoothing == "backoff" else (longest,)
    sizes = tuple(contexts.tables[k] for k in used)
    if sum(sizes) * sequence.levels > CELLS:
        raise ConfigError(
            f"an n-gram of order {config.order} over {sequence.levels} levels needs "
            f"{sum(sizes) * sequence.levels:,} counts; at most {CELLS:,} are kept",
            "lower model.order, or round the context with model.bins",
        )
    weight = config.strength * (1 if config.smoothing == "backoff" else sequence.levels)

    def init(key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        return Variables(params={"model": {}}, state=ngrams.empty(sizes, sequence.levels), frozen=frozen)

    def numbers(past, positions, label):
        found = contexts.number(past, positions, label)
        return [found[k] for k in used]

    def passes(counts: ngrams.Counts) -> jax.Array:
        return (
            jnp.maximum(counts.rows.astype(jnp.float32) / max(spec.rows, 1), 1.0)
            if spec.rows
            else jnp.ones(())
        )

    def nats(counts: ngrams.Counts, where: list[jax.Array], targets: jax.Array) -> jax.Array:
        scale = 1.0 / passes(counts)
        pairs = [p[c, targets] * scale for p, c in zip(counts.pairs, where, strict=True)]
        totals = [t[c] * scale for t, c in zip(counts.totals, where, strict=True)]
        return -jnp.log(ngrams.smoothed(pairs, totals, sequence.levels, weight))

    def read(batch: Batch) -> tuple[list[jax.Array], jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
        inputs, targets, mask = sequence.encode(batch)
        past = jnp.pad(inputs, ((0, 0), (contexts.memory - 1, 0)), constant_values=sequence.null)
        label = inputs[:, 0] - sequence.levels
        positions = jnp.broadcast_to(jnp.arange(inputs.shape[1])[None], inputs.shape)
        return numbers(past, positions, label), targets, mask, (past, positions)

    def objective(variables, batch, keys, *, step):
        counts = variables.state
        where, targets, mask, (past, positions) = read(batch)
        loss = Mean.of(nats(counts, where, targets), mask)
        if step is None:
            return loss, Aux(counts)
        taken = (mask > 0).astype(jnp.int32)
        if sequence.classes:
            # Every row is also counted as one whose label is not known.
            unknown = numbers(past, positions, jnp.full(past.shape[:1], sequence.classes))
            where = [jnp.concatenate(pair) for pair in zip(where, unknown, strict=True)]
            targets, taken = jnp.concatenate([targets, targets]), jnp.concatenate([taken, taken])
        # The other devices' pairs are gathered, not their tables: those are a thousand times larger.
        found = ([w.reshape(-1) for w in where], targets.reshape(-1), taken.reshape(-1))
        where, targets, taken = across(found, _gather)
        rows = across((batch["mask"] > 0).astype(jnp.int32).sum())
        return loss, Aux(ngrams.add(counts, where, targets, taken, rows))

    def likelihood(
        variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, dict]:
        """Nats of every row given its label (or not: `label=False`), and its count of predicted tokens."""
        if not label:
            batch = {k: v for k, v in batch.items() if k != "label"}
        where, targets, mask, _ = read(batch)
        return per_row(nats(variables.state, where, targets), mask), {}

    def start(variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        return {
            "past": jnp.full((num, contexts.memory - 1), sequence.null, jnp.int32),
            "label": jnp.full((num,), sequence.classes, jnp.int32),
            "length": jnp.zeros((num,), jnp.int32),
        }

    def advance(variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        counts, scale = variables.state, 1.0 / passes(variables.state)
        label = jnp.where(tokens[:, 0] >= sequence.levels, tokens[:, 0] - sequence.levels, cache["label"])
        past = jnp.concatenate([cache["past"], tokens], axis=1)
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None]
        where = numbers(past, positions, label)
        pairs = [p[c] * scale for p, c in zip(counts.pairs, where, strict=True)]
        totals = [t[c][..., None] * scale for t, c in zip(counts.totals, where, strict=True)]
        logits = jnp.log(ngrams.smoothed(pairs, totals, sequence.levels, weight))
        return logits, {"past": past, "label": label, "length": cache["length"]}

    def keep(trail: dict, count: jax.Array) -> dict:
        kept = contexts.memory - 1
        past = jax.vmap(lambda x, i: jax.lax.dynamic_slice(x, (i,), (kept,)))(trail["past"], count)
        return {"past": past, "label": trail["label"], "length": trail["length"] + count}

    decoder = Decoder(start, advance, keep)
    return Model(
        init=init,
        plays={"nll": Play("model", objective, rowwise=False)},
        sample=sampler(decoder, sequence),
        likelihood=likelihood,
        decoder=decoder,
    )


def _contexts(config: Config, sequence: Sequence) -> ngrams.Contexts:
    if config.context == "nearest" and sequence.text:
        raise ConfigError("text has no nearest pixels", 'set model.context="previous"')
    near = config.context == "nearest"
    number = config.order - 1
    neighbours = ngrams.nearest(number, sequence.shape) if near else ngrams.previous(number)
    bins = sequence.levels if config.bins is None else min(config.bins, sequence.levels)
    return ngrams.Contexts(sequence, neighbours, bins, config.position)


def _gather(x: jax.Array, axis: str) -> jax.Array:
    return jax.lax.all_gather(x, axis, tiled=True)
