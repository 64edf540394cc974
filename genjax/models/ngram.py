"""n-gram: predict the next token from counts of what followed its context. Learns by counting, in one pass.

There are two forms of counts. Dense tables hold every possible context. They suit images, whose context is
the label and the last or nearest n - 1 pixels, rounded to a few grey levels (predicted values are not
rounded, so likelihoods are exact for any number of bins), and text with few tokens and low orders. Sorted
counts keep the text itself, which `finish` sorts: any order over any vocabulary, for text only.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from genjax.config import Natural, Positive, Range, Width, check
from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Tree, Variables, across
from genjax.counting import corpus, lookup, ngrams, tables
from genjax.errors import ConfigError
from genjax.functional.losses import per_row
from genjax.sampling.rows import sampler
from genjax.views.sequences import Sequence

CELLS = 2**28
"""The largest number of counts in tables: 1 GiB of int32."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure an n-gram model.

    Attributes:
      order: n: a token is predicted from n - 1 others.
      smoothing: "kneser_ney" (modified, interpolated), "witten_bell" and "backoff" (a constant weight)
        interpolate every context with the shorter ones; "additive" interpolates the longest context with the
        uniform distribution. See counting/ngrams.py for the formulas.
      strength: of "additive": constant added to every count; of "backoff": number of observations of a
        context that weigh as much as the shorter context.
      counts: "dense" tables or the "sorted" text; None for sorted if the smoothing is kneser_ney or
        witten_bell, which have no tables, else dense.
      end: of sorted counts: the token that ends a document, as </s> does. The next token is predicted from
        the beginning of a document, and no context crosses it. "eos" for the tokenizer's own (the line end of
        `words`: a line is then a sentence, as in KenLM), or a token's id (10 for the line end of `bytes`).
        None for running text; documents that the data separates (data.documents) stay separate anyway.
      context: of dense counts: "previous" takes the last tokens in reading order, "nearest" the nearest
        pixels that precede one (images only).
      bins: of dense counts: grey levels that the pixels of a context are rounded to; None for all levels.
      position: of dense counts: the position of the pixel is part of the context.
    """

    order: Annotated[int, Range(least=1, most=1000)] = 4
    context: Literal["previous", "nearest"] = "previous"
    bins: Width | None = None
    position: bool = False
    smoothing: ngrams.Smoothing = "backoff"
    strength: Positive = 1.0
    counts: Literal["dense", "sorted"] | None = None
    end: Natural | Literal["eos"] | None = None

    def __post_init__(self):
        check(self)
        if self.counts == "dense" and self.smoothing not in DENSE:
            raise ConfigError(
                f"the smoothing {self.smoothing!r} has no dense tables", 'set model.counts="sorted"'
            )
        if self.sorts and (self.context, self.bins, self.position) != ("previous", None, False):
            raise ConfigError(
                "the context of sorted counts is the previous tokens of a text",
                "leave model.context, model.bins and model.position out",
            )
        if self.end is not None and not self.sorts:
            raise ConfigError("model.end needs sorted counts", 'set model.counts="sorted"')

    @property
    def sorts(self) -> bool:
        """True if the text is kept and sorted."""
        return self.counts == "sorted" or (self.counts is None and self.smoothing not in DENSE)


DENSE = ("backoff", "additive")
"""The smoothings that dense tables have."""


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """Build an n-gram for text or quantised images. Player "model" has no parameters; exact likelihood.

    Raises:
      ConfigError: the data has no discrete target, the tables would be too large, or sorted counts are
        requested for images.
    """
    del stages
    sequence = Sequence.of(spec)
    if not config.sorts:
        return _dense(config, spec, sequence)
    return _sorted(config, spec, sequence)


# --- sorted text ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Sorted:
    """Implement the contract for sorted counts. The state is the text; `finish` turns it into n-grams.

    The text is read in one ordered pass (data.order="once"), and contexts reach from row to row. A second
    pass is not counted. Likelihoods carry the context from row to row if the batch has a carry.
    """

    config: Config
    spec: Spec
    sequence: Sequence
    end: int | None

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        state = corpus.empty(self.sequence, self.spec)
        return Variables(params={"model": {}}, state=state, frozen=frozen)

    def finish(self, variables: Variables) -> Variables:
        return variables.replace(state=self.index(variables))

    def index(self, variables: Variables) -> ngrams.Index:
        """Return the smoothed n-grams: the state itself if it is finished."""
        state = variables.state
        c = self.config
        if isinstance(state, ngrams.Index):
            return state
        text = corpus.stream(state, self.end)
        return ngrams.build(text, c.order, self.sequence.levels, c.smoothing, c.strength)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        if step is None:
            nats, mask, _ = self.nats(variables, batch)
            return Mean.of(nats, mask), Aux(variables.state)
        return corpus.learn(variables.state, batch, self.sequence)

    def carry(self, batch: Batch) -> Tree:
        num = batch["mask"].shape[0]
        return {
            "place": lookup.unknown(self.config.order, num),
            **corpus.unread(num),
        }

    def nats(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array, Tree]:
        """Return (nats of every target, their mask, the carry before the last target)."""
        index = self.index(variables)
        carry = batch.get("carry") or self.carry(batch)
        inputs, targets, mask = self.sequence.encode(batch)
        tokens = jnp.concatenate([inputs, targets[:, -1:]], axis=1)
        forget, fresh, last = corpus.beginnings(batch, tokens, carry)
        place = jnp.where(forget[:, None], -1, carry["place"])
        places, grams = lookup.read(index, place, tokens, fresh, self.end)
        p = lookup.probability(index, places[:, :-1], grams[:, 1:], self.sequence.levels)
        return -jnp.log(p), mask, {"place": places[:, -2], **last}

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Tree]:
        """Compute the nats and the count of tokens of every row; return the carry if one was given."""
        nats, mask, carry = self.nats(variables, batch)
        return per_row(nats, mask), carry if batch.get("carry") else {}

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> Tree:
        return {"place": lookup.unknown(self.config.order, num)}

    def step(self, variables: Variables, cache: Tree, tokens: jax.Array) -> tuple[jax.Array, Tree]:
        index = self.index(variables)
        places, _ = lookup.read(index, cache["place"], tokens, None, self.end)
        logits = jnp.log(lookup.distribution(index, places, self.sequence.levels))
        return logits, {"places": jnp.concatenate([cache["place"][:, None], places], axis=1)}

    def commit(self, trail: Tree, count: jax.Array) -> Tree:
        return {"place": jnp.take_along_axis(trail["places"], count[:, None, None], axis=1)[:, 0]}


def _sorted(config: Config, spec: Spec, sequence: Sequence) -> Model:
    if not sequence.text:
        raise ConfigError("images have no sorted counts", 'choose model.smoothing="backoff" or "additive"')
    if spec.rows < 1:
        raise ConfigError("sorted counts need the number of training rows", "give Spec.rows")
    m = _Sorted(config, spec, sequence, corpus.ending(config.end, spec))
    decoder = Decoder(m.start, m.step, m.commit)
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective, rowwise=False)},
        carry=m.carry if config.order > 1 else Model._field_defaults["carry"],
        finish=m.finish,
        sample=sampler(decoder, sequence),
        likelihood=m.likelihood,
        decoder=decoder,
    )


# --- dense tables --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Dense:
    """Implement the contract for dense counts. The state is the counts of every possible context.

    Counts are divided by the number of passes over the data, so a second pass changes nothing. The training
    loss is that of predicting each batch before it is counted. Unlike the counts, it depends on how rows are
    divided into batches.

    Attributes:
      used: indices of the contexts' tables that are kept, the shortest context first.
      weight: of the shorter context, in observations.
    """

    spec: Spec
    sequence: Sequence
    contexts: tables.Contexts
    used: tuple[int, ...]
    weight: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of contexts in each table that is kept."""
        return tuple(self.contexts.tables[k] for k in self.used)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        return Variables(
            params={"model": {}}, state=tables.empty(self.sizes, self.sequence.levels), frozen=frozen
        )

    def numbers(self, past: jax.Array, positions: jax.Array, label: jax.Array) -> list[jax.Array]:
        """Return the index of every context in each table that is kept."""
        found = self.contexts.number(past, positions, label)
        return [found[k] for k in self.used]

    def scale(self, counts: tables.Counts) -> jax.Array | float:
        """Return one over the number of passes that were counted."""
        if not self.spec.rows:
            return 1.0
        return 1.0 / jnp.maximum(counts.rows.astype(jnp.float32) / self.spec.rows, 1.0)

    def nats(self, counts: tables.Counts, where: list[jax.Array], targets: jax.Array) -> jax.Array:
        """Compute -log p(target) after contexts, given by their indices `where` in each table."""
        scale = self.scale(counts)
        pairs = [p[c, targets] * scale for p, c in zip(counts.pairs, where, strict=True)]
        totals = [t[c] * scale for t, c in zip(counts.totals, where, strict=True)]
        return -jnp.log(tables.smoothed(pairs, totals, self.sequence.levels, self.weight))

    def read(self, batch: Batch) -> tuple[list[jax.Array], jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
        """Return (indices of the contexts, targets, mask, (past tokens, positions)) of a batch."""
        s = self.sequence
        inputs, targets, mask = s.encode(batch)
        past = jnp.pad(inputs, ((0, 0), (self.contexts.memory - 1, 0)), constant_values=s.null)
        positions = jnp.broadcast_to(jnp.arange(inputs.shape[1])[None], inputs.shape)
        return self.numbers(past, positions, inputs[:, 0] - s.levels), targets, mask, (past, positions)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        counts = variables.state
        where, targets, mask, (past, positions) = self.read(batch)
        loss = Mean.of(self.nats(counts, where, targets), mask)
        if step is None:
            return loss, Aux(counts)
        taken = (mask > 0).astype(jnp.int32)
        if classes := self.sequence.classes:
            # Every row is counted a second time as a row without a label.
            unknown = self.numbers(past, positions, jnp.full(past.shape[:1], classes))
            where = [jnp.concatenate(pair) for pair in zip(where, unknown, strict=True)]
            targets = jnp.concatenate([targets, targets])
            taken = jnp.concatenate([taken, taken])
        # Gather the pairs of the other devices, not their tables, which are a thousand times larger.
        found = ([w.reshape(-1) for w in where], targets.reshape(-1), taken.reshape(-1))
        where, targets, taken = across(found, corpus.gather)
        rows = across((batch["mask"] > 0).astype(jnp.int32).sum())
        return loss, Aux(tables.add(counts, where, targets, taken, rows))

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, dict]:
        """Compute the nats of every row and its count of predicted tokens; label=False ignores the label."""
        if not label:
            batch = {k: v for k, v in batch.items() if k != self.sequence.label}
        where, targets, mask, _ = self.read(batch)
        return per_row(self.nats(variables.state, where, targets), mask), {}

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        return {
            "past": jnp.full((num, self.contexts.memory - 1), self.sequence.null, jnp.int32),
            "label": jnp.full((num,), self.sequence.classes, jnp.int32),
            "length": jnp.zeros((num,), jnp.int32),
        }

    def step(self, variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        counts = variables.state
        levels = self.sequence.levels
        scale = self.scale(counts)
        label = jnp.where(tokens[:, 0] >= levels, tokens[:, 0] - levels, cache["label"])
        past = jnp.concatenate([cache["past"], tokens], axis=1)
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None]
        where = self.numbers(past, positions, label)
        pairs = [p[c] * scale for p, c in zip(counts.pairs, where, strict=True)]
        totals = [t[c][..., None] * scale for t, c in zip(counts.totals, where, strict=True)]
        logits = jnp.log(tables.smoothed(pairs, totals, levels, self.weight))
        return logits, {"past": past, "label": label, "length": cache["length"]}

    def commit(self, trail: dict, count: jax.Array) -> dict:
        kept = self.contexts.memory - 1
        past = jax.vmap(lambda x, i: jax.lax.dynamic_slice(x, (i,), (kept,)))(trail["past"], count)
        return {"past": past, "label": trail["label"], "length": trail["length"] + count}


def _dense(config: Config, spec: Spec, sequence: Sequence) -> Model:
    contexts = _contexts(config, sequence)
    longest = len(contexts.tables) - 1
    mixed = config.smoothing == "backoff"
    used = tuple(range(longest + 1)) if mixed else (longest,)
    m = _Dense(spec, sequence, contexts, used, config.strength * (1 if mixed else sequence.levels))
    cells = sum(m.sizes) * sequence.levels
    if cells > CELLS:
        other = ', or count only n-grams that occur: model.counts="sorted"' if sequence.text else ""
        raise ConfigError(
            f"an n-gram of order {config.order} over {sequence.levels} levels needs "
            f"{cells:,} counts, and tables hold at most {CELLS:,}",
            f"lower model.order, or round the context with model.bins{other}",
        )
    decoder = Decoder(m.start, m.step, m.commit)
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective, rowwise=False)},
        sample=sampler(decoder, sequence),
        likelihood=m.likelihood,
        decoder=decoder,
    )


def _contexts(config: Config, sequence: Sequence) -> tables.Contexts:
    if config.context == "nearest" and sequence.text:
        raise ConfigError("text has no nearest pixels", 'set model.context="previous"')
    near = config.context == "nearest"
    number = config.order - 1
    neighbours = tables.nearest(number, sequence.shape) if near else tables.previous(number)
    bins = sequence.levels if config.bins is None else min(config.bins, sequence.levels)
    return tables.Contexts(sequence, neighbours, bins, config.position)
