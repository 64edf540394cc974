"""The text that a counting model has read: a buffer of static size, filled by the training loop.

Rows are windows of running text that share one token with the next (its last is the next one's first), or
whole documents. Read in order (data.order="once") the buffer holds the text itself; `stream` lays it out as
one sequence, in which no context reaches across the beginning of a document.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int, Shaped

from genjax.core import Aux, Batch, Mean, Spec, Tree, across
from genjax.errors import ConfigError
from genjax.views.columns import RESET, SEGMENT, TOKEN_MASK
from genjax.views.sequences import Sequence, discrete_target


@struct.dataclass
class Corpus:
    """Rows as they were read.

    Attributes:
      tokens: R x (T+1), in the smallest unsigned dtype that holds V.
      document: the document of every slot, 0 for what is not to be counted; None where every slot of a row
        counts and belongs with the others.
      rows: int32, how many have been read; what comes after the buffer is full (a second pass) is left out.
      unigrams: int32, V: how often each token was a target.
    """

    tokens: Shaped[Array, "R S"]
    document: Int[Array, "R S"] | None
    rows: Int[Array, ""]
    unigrams: Int[Array, " V"]


@struct.dataclass
class Stream:
    """The text as one sequence of M slots; slot 0 stands before it, and is no token.

    Attributes:
      symbols: int32: tokens of [0, V).
      begin: True on the first token of every document, and on the slot after the last token.
      last: the last slot that holds a token (there are that many tokens).
    """

    symbols: Int[Array, " M"]
    begin: Bool[Array, " M"]
    last: Int[Array, ""]


def empty(sequence: Sequence, spec: Spec) -> Corpus:
    """An empty buffer for all rows of the training split."""
    V, shape = sequence.levels, (max(spec.rows, 1), sequence.length + 1)
    dtype = jnp.uint8 if V <= 2**8 else jnp.uint16 if V <= 2**16 else jnp.int32
    parted = SEGMENT in spec or TOKEN_MASK in spec
    return Corpus(
        jnp.zeros(shape, dtype),
        jnp.zeros(shape, jnp.int32) if parted else None,
        jnp.zeros((), jnp.int32),
        jnp.zeros((V,), jnp.int32),
    )


def documents(batch: Batch, length: int) -> Int[Array, "B T+1"]:
    """The document of every slot of the rows; 0 where a slot is not to be counted."""
    shape = (batch["mask"].shape[0], length + 1)
    found = batch[SEGMENT].astype(jnp.int32) if SEGMENT in batch else jnp.ones(shape, jnp.int32)
    if TOKEN_MASK in batch:
        found = jnp.where(jnp.pad(batch[TOKEN_MASK] > 0, ((0, 0), (1, 0)), constant_values=True), found, 0)
    return found


def learn(corpus: Corpus, batch: Batch, sequence: Sequence) -> tuple[Mean, Aux]:
    """An objective: the rows are appended, those of all devices in the order of the global batch.

    The loss is that of predicting the batch by the counts of single tokens before it, each plus one: longer
    contexts are known only when the text is sorted.
    """
    _, targets, mask = sequence.encode(batch)
    counts = corpus.unigrams.astype(jnp.float32) + 1
    loss = Mean.of(jnp.log(counts.sum()) - jnp.log(counts)[targets], mask)
    rows = {
        "windows": batch[sequence.element].astype(jnp.int32),
        "live": (batch["mask"] > 0).astype(jnp.int32),
        "targets": targets,
        "counts": (mask > 0).astype(jnp.int32),
    }
    if corpus.document is not None:
        rows["document"] = documents(batch, sequence.length)
    return loss, Aux(_append(corpus, **across(rows, gather)))


def _append(
    corpus: Corpus,
    windows: Int[Array, "B T+1"],
    live: Int[Array, " B"],
    targets: Int[Array, "B T"],
    counts: Int[Array, "B T"],
    document: Int[Array, "B T+1"] | None = None,
) -> Corpus:
    capacity = corpus.tokens.shape[0]
    place = corpus.rows + jnp.cumsum(live) - live
    fits = (live > 0) & (place < capacity)
    place = jnp.where(fits, place, capacity)
    known = corpus.document
    if known is not None:
        known = known.at[place].set(document, mode="drop")
    return Corpus(
        corpus.tokens.at[place].set(windows.astype(corpus.tokens.dtype), mode="drop"),
        known,
        jnp.minimum(corpus.rows + live.sum(), capacity),
        corpus.unigrams.at[targets].add(counts * fits[:, None]),
    )


def gather(x: jax.Array, axis: str) -> jax.Array:
    """The rows of all devices, in the order of the global batch."""
    return jax.lax.all_gather(x, axis, tiled=True)


def unread(num: int) -> Tree:
    """The part of a carry that knows which document was read, before anything was."""
    return {"document": jnp.zeros((num,), jnp.int32), "token": jnp.full((num,), -1, jnp.int32)}


def beginnings(
    batch: Batch, tokens: Int[Array, "B T+1"], carry: Tree
) -> tuple[Bool[Array, " B"], Bool[Array, "B T+1"] | None, Tree]:
    """Where rows that go on from others begin anew.

    Where documents are told apart, a row goes on from the one before it only if they share a document and
    the token between them; else it begins one.

    Args:
      tokens: the rows.
      carry: what the rows before left: the document of their last token, and that token.

    Returns:
      (rows that go on from nothing, tokens that begin a document or None where there are none, the carry).
    """
    forget = batch[RESET] > 0 if RESET in batch else jnp.zeros(batch["mask"].shape, bool)
    if SEGMENT not in batch:
        return forget, None, {"document": carry["document"], "token": tokens[:, -1]}
    segment = batch[SEGMENT].astype(jnp.int32)
    on = (segment[:, 0] == carry["document"]) & (tokens[:, 0] == carry["token"]) & ~forget
    fresh = jnp.concatenate([~on[:, None], segment[:, 1:] != segment[:, :-1]], axis=1)
    return forget, fresh, {"document": segment[:, -1], "token": tokens[:, -1]}


def ending(end: int | str | None, spec: Spec) -> int | None:
    """The number of the token that ends a document, "eos" being the tokenizer's own.

    Raises:
      ConfigError: the tokenizer has none, or there is no such token.
    """
    if end == "eos" and "eos" not in spec.special:
        raise ConfigError(
            "model.end='eos': this tokenizer has no end token",
            "give the token's number (10 is the line end of data.tokenizer='bytes'), or None",
        )
    number = spec.special["eos"] if end == "eos" else end
    levels = spec[discrete_target(spec)].levels or 0
    if number is not None and not 0 <= int(number) < levels:
        raise ConfigError(f"model.end={number}: there are {levels} tokens", "give a token, or None")
    return None if number is None else int(number)


def stream(corpus: Corpus, end: int | None = None) -> Stream:
    """The rows as one sequence: a row goes on from the one before where they share a token of one document.

    Args:
      end: a token that ends a document (`</s>`): what follows it begins another.
    """
    rows, width = corpus.tokens.shape
    tokens = corpus.tokens.astype(jnp.int32)
    document = jnp.ones_like(tokens) if corpus.document is None else corpus.document
    before = jnp.roll(tokens[:, -1], 1), jnp.roll(document[:, -1], 1)
    joined = (tokens[:, 0] == before[0]) & (document[:, 0] == before[1]) & (jnp.arange(rows) > 0)
    kept = (document > 0) & (jnp.arange(rows) < corpus.rows)[:, None]
    kept = kept.at[:, 0].set(kept[:, 0] & ~joined)  # it is the last token of the row before
    changed = jnp.pad(document[:, 1:] != document[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    kept, changed = kept.reshape(-1), changed.reshape(-1)
    # Slot 0 is before the text; slots are as many as tokens could be, and one to end them.
    slots = rows * width + 2
    place = jnp.where(kept, cumulative(kept.astype(jnp.int32)), slots)
    symbols = jnp.zeros((slots,), jnp.int32).at[place].set(tokens.reshape(-1), mode="drop")
    begin = jnp.zeros((slots,), bool).at[place].set(changed, mode="drop")
    last = kept.sum(dtype=jnp.int32)
    if end is not None:
        begin |= jnp.roll(symbols == end, 1)
    begin = begin.at[0].set(False).at[1].set(True).at[last + 1].set(True)
    return Stream(symbols, begin & (jnp.arange(slots) <= last + 1), last)


@struct.dataclass
class Grams:
    """What is sorted: at every slot p the symbols that begin there and stay within one document.

    The first symbol of slot p is its token, or where p + 1 begins a document V, what stands before it: a
    document's last token begins no longer sequence, so that its slot serves the next one.

    Attributes:
      first: int32, M: the first symbol, in [0, V].
      reach: int32, M: how many symbols there are; 0 beyond the text.
      symbols: int32, M: the others, symbols[p + 1], symbols[p + 2] ...
    """

    first: Int[Array, " M"]
    reach: Int[Array, " M"]
    symbols: Int[Array, " M"]

    def at(self, slot: Int[Array, "*S"], depth: Int[Array, "*S"] | int) -> Int[Array, "*S"]:
        """Symbol `depth` (0 is the first) of a slot, -1 where there is none."""
        there = jnp.minimum(slot + depth, self.symbols.shape[0] - 1)
        value = jnp.where(jnp.asarray(depth) == 0, self.first[slot], self.symbols[there])
        return jnp.where(depth < self.reach[slot], value, -1)


def grams(s: Stream, levels: int) -> Grams:
    """The sequences of symbols that begin at every slot."""
    slots = s.symbols.shape[0]
    place = jnp.arange(slots)
    # The next slot, from p + 2 on, where a document begins: what begins at p ends before it.
    number = cumulative(s.begin.astype(jnp.int32))
    where = jnp.full((slots,), slots).at[jnp.where(s.begin, number, slots)].set(place, mode="drop")
    ahead = jnp.where(s.begin, place, where[number + 1])
    ahead = jnp.concatenate([ahead[2:], jnp.full((2,), slots, ahead.dtype)])
    reach = jnp.where(place <= s.last, jnp.minimum(ahead, s.last + 1) - place, 0)
    opens = jnp.concatenate([s.begin[1:], jnp.zeros((1,), bool)]) & (place < s.last)
    return Grams(jnp.where(opens, levels, s.symbols), reach, s.symbols)


def cumulative(x: Int[Array, " N"]) -> Int[Array, " N"]:
    """jnp.cumsum of a long vector, as a scan over sqrt(N) vectors: compiled in a tenth of the time."""
    size = max(math.isqrt(len(x)), 1)
    blocks = jnp.pad(x, (0, -len(x) % size)).reshape(-1, size)
    add = lambda total, value: (total + value, total + value)
    totals, within = jax.lax.scan(add, jnp.zeros((len(blocks),), x.dtype), blocks.T)
    before = jax.lax.scan(add, jnp.zeros((), x.dtype), totals)[1] - totals
    return (within.T + before[:, None]).reshape(-1)[: len(x)]
