"""Store the text that a counting model has read: a buffer of static size, filled by the training loop.

Rows are whole documents, or windows of running text: the last token of a window is the first of the next.
Read in order (data.order="once"), the buffer holds the text itself. `stream` joins the rows into one
sequence, in which no context crosses the beginning of a document. `grams` lists the sequences of symbols that
are sorted (counting/ngrams.py by their first n symbols, counting/suffixes.py as a whole).
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
    """Hold rows in the order in which they were read.

    Attributes:
      tokens: R x (T+1), in the smallest dtype that holds V.
      document: the document of every slot, 0 for slots that do not count; None if all slots of a row count
        and belong to one document.
      rows: int32, rows read so far; rows that come after the buffer is full (a second pass) are ignored.
      unigrams: int32, V: number of times that each token was a target.
    """

    tokens: Shaped[Array, "R S"]
    document: Int[Array, "R S"] | None
    rows: Int[Array, ""]
    unigrams: Int[Array, " V"]


@struct.dataclass
class Stream:
    """Hold the text as one sequence of M slots; slot 0 precedes the text and holds no token.

    Attributes:
      symbols: int32: tokens in [0, V).
      begin: True on the first token of every document, and on the slot after the last token.
      last: the last slot that holds a token, which is also the number of tokens.
    """

    symbols: Int[Array, " M"]
    begin: Bool[Array, " M"]
    last: Int[Array, ""]


def empty(sequence: Sequence, spec: Spec) -> Corpus:
    """Return an empty buffer for all rows of the training split."""
    V = sequence.levels
    shape = (max(spec.rows, 1), sequence.length + 1)
    dtype = jnp.uint8 if V <= 2**8 else jnp.uint16 if V <= 2**16 else jnp.int32
    parted = SEGMENT in spec or TOKEN_MASK in spec
    return Corpus(
        jnp.zeros(shape, dtype),
        jnp.zeros(shape, jnp.int32) if parted else None,
        jnp.zeros((), jnp.int32),
        jnp.zeros((V,), jnp.int32),
    )


def documents(batch: Batch, length: int) -> Int[Array, "B T+1"]:
    """Return the document of every slot of the rows; 0 for slots that do not count."""
    shape = (batch["mask"].shape[0], length + 1)
    found = batch[SEGMENT].astype(jnp.int32) if SEGMENT in batch else jnp.ones(shape, jnp.int32)
    if TOKEN_MASK in batch:
        found = jnp.where(jnp.pad(batch[TOKEN_MASK] > 0, ((0, 0), (1, 0)), constant_values=True), found, 0)
    return found


def learn(corpus: Corpus, batch: Batch, sequence: Sequence) -> tuple[Mean, Aux]:
    """Append the rows of all devices in the order of the global batch; return a training loss.

    The loss is that of predicting the batch from add-one counts of single tokens before it: longer contexts
    are known only after the text is sorted.
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
    """Append rows (`windows`), of which those with live = 1 are no padding."""
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
    """Return the rows of all devices in the order of the global batch."""
    return jax.lax.all_gather(x, axis, tiled=True)


def unread(num: int) -> Tree:
    """Return the carry of `beginnings` before anything was read."""
    return {"document": jnp.zeros((num,), jnp.int32), "token": jnp.full((num,), -1, jnp.int32)}


def beginnings(
    batch: Batch, tokens: Int[Array, "B T+1"], carry: Tree
) -> tuple[Bool[Array, " B"], Bool[Array, "B T+1"] | None, Tree]:
    """Return where the rows of a batch begin documents.

    If documents are numbered, a row continues the previous row of its lane only if the two share a document
    and the token between them; else it begins a document.

    Args:
      tokens: the rows.
      carry: the document of the last token of the previous rows, and that token.

    Returns:
      (rows that continue nothing, tokens that begin a document or None without documents, the next carry).
    """
    forget = batch[RESET] > 0 if RESET in batch else jnp.zeros(batch["mask"].shape, bool)
    if SEGMENT not in batch:
        return forget, None, {"document": carry["document"], "token": tokens[:, -1]}
    segment = batch[SEGMENT].astype(jnp.int32)
    on = (segment[:, 0] == carry["document"]) & (tokens[:, 0] == carry["token"]) & ~forget
    fresh = jnp.concatenate([~on[:, None], segment[:, 1:] != segment[:, :-1]], axis=1)
    return forget, fresh, {"document": segment[:, -1], "token": tokens[:, -1]}


def ending(end: int | str | None, spec: Spec) -> int | None:
    """Return the id of the token that ends a document; "eos" stands for the tokenizer's own.

    Raises:
      ConfigError: the tokenizer has no eos, or the id is not a token.
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
    """Join the rows into one sequence; a row continues the previous one if they share a document's token.

    Args:
      end: a token that ends a document (`</s>`): the next token begins another.
    """
    rows, width = corpus.tokens.shape
    tokens = corpus.tokens.astype(jnp.int32)
    document = jnp.ones_like(tokens) if corpus.document is None else corpus.document
    same_token = tokens[:, 0] == jnp.roll(tokens[:, -1], 1)
    same_document = document[:, 0] == jnp.roll(document[:, -1], 1)
    joined = same_token & same_document & (jnp.arange(rows) > 0)
    kept = (document > 0) & (jnp.arange(rows) < corpus.rows)[:, None]
    # The first token of a joined row is the last token of the previous row.
    kept = kept.at[:, 0].set(kept[:, 0] & ~joined)
    changed = jnp.pad(document[:, 1:] != document[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    kept = kept.reshape(-1)
    changed = changed.reshape(-1)
    # Slot 0 precedes the text; then a slot for every possible token, and one after the last.
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
    """Hold, for every slot p, the sequence of symbols that begins there and stays within one document.

    The first symbol of slot p is its token. If p + 1 begins a document, it is V, the symbol before one:
    the last token of a document begins no longer sequence, so its slot can serve the next document.

    Attributes:
      first: int32, M: the first symbol, in [0, V].
      reach: int32, M: number of symbols; 0 beyond the text.
      symbols: int32, M: the other symbols are symbols[p + 1], symbols[p + 2] ...
    """

    first: Int[Array, " M"]
    reach: Int[Array, " M"]
    symbols: Int[Array, " M"]

    def at(self, slot: Int[Array, "*S"], depth: Int[Array, "*S"] | int) -> Int[Array, "*S"]:
        """Return symbol `depth` (0 is the first) of a slot; -1 beyond its reach."""
        there = jnp.minimum(slot + depth, self.symbols.shape[0] - 1)
        value = jnp.where(jnp.asarray(depth) == 0, self.first[slot], self.symbols[there])
        return jnp.where(depth < self.reach[slot], value, -1)


def grams(s: Stream, levels: int) -> Grams:
    """Return the sequences of symbols that begin at every slot."""
    slots = s.symbols.shape[0]
    place = jnp.arange(slots)
    # The sequence at p ends before the next slot, from p + 2 on, that begins a document.
    number = cumulative(s.begin.astype(jnp.int32))
    where = jnp.full((slots,), slots).at[jnp.where(s.begin, number, slots)].set(place, mode="drop")
    ahead = jnp.where(s.begin, place, where[number + 1])
    ahead = jnp.concatenate([ahead[2:], jnp.full((2,), slots, ahead.dtype)])
    reach = jnp.where(place <= s.last, jnp.minimum(ahead, s.last + 1) - place, 0)
    opens = jnp.concatenate([s.begin[1:], jnp.zeros((1,), bool)]) & (place < s.last)
    return Grams(jnp.where(opens, levels, s.symbols), reach, s.symbols)


def cumulative(x: Int[Array, " N"]) -> Int[Array, " N"]:
    """Compute jnp.cumsum of a long vector as a scan over sqrt(N) vectors: it compiles ten times faster."""
    size = max(math.isqrt(len(x)), 1)
    blocks = jnp.pad(x, (0, -len(x) % size)).reshape(-1, size)
    add = lambda total, value: (total + value, total + value)
    totals, within = jax.lax.scan(add, jnp.zeros((len(blocks),), x.dtype), blocks.T)
    before = jax.lax.scan(add, jnp.zeros((), x.dtype), totals)[1] - totals
    return (within.T + before[:, None]).reshape(-1)[: len(x)]
