"""Read data as pairs of texts: the form in which a sequence-to-sequence model reads and writes.

Paired data (a source, its length, a target, its length) is read as it is. In a row of running text some spans
are dropped, and the target is what was dropped (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4). Special
tokens that the tokenizer lacks (those of bytes and characters lack all) get the ids after its own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Keys, Spec
from genjax.errors import ConfigError
from genjax.functional.corruption import drop_spans, span_sizes
from genjax.views.columns import SEGMENT, SOURCE, TOKEN_MASK, length_of
from genjax.views.sequences import discrete_target, is_running


class Pair(NamedTuple):
    """Hold a batch of sources and targets. Masks are 0 on padding; the target's also on padding rows."""

    source: Int[Array, "B S"]
    source_mask: Float[Array, "B S"]
    target: Int[Array, "B T"]
    target_mask: Float[Array, "B T"]


class _Tokens(NamedTuple):
    """Hold the ids of the special tokens, and the number of ids with them."""

    pad: int
    eos: int
    sentinels: tuple[int, ...]
    special: frozenset[int]
    count: int


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Convert the rows of a spec to pairs.

    Attributes:
      paired: the data holds pairs; else it holds running text.
      source, target: names of the condition and of the target. Running text has one element, `target`.
      width: tokens of a target row of the data.
      levels: tokens of the data.
      vocabulary: rows of an embedding table: `levels` and the special tokens that were added.
      pad, eos: decoders begin with pad, as T5's do, and end with eos.
      sentinels: ids that mark dropped spans.
      silent: ids that never occur in a text: special tokens, and ids beyond the data's own.
      density, mean_span: see functional.corruption.
    """

    paired: bool
    source: str
    target: str
    width: int
    levels: int
    vocabulary: int
    pad: int
    eos: int
    sentinels: tuple[int, ...]
    silent: tuple[int, ...]
    density: float
    mean_span: float

    @classmethod
    def of(
        cls, spec: Spec, density: float = 0.15, mean_span: float = 3.0, vocabulary: int | None = None
    ) -> Pairs:
        """Return the pairs of a spec: of its target and condition if it is paired, else of running text.

        Args:
          vocabulary: rows of the embedding table, if more than are needed.

        Raises:
          ConfigError: neither pairs nor running text; a vocabulary that is too small.
        """
        if not (0 < density < 1 and mean_span >= 1):
            raise ConfigError(
                f"density {density} or mean_span {mean_span} is out of range", "0 < density < 1 <= mean_span"
            )
        source, target = _paired_names(spec) if spec.paired else (SOURCE, _running_text(spec))
        levels = spec[target].levels or 0
        width = spec[target].shape[0]
        needed = 1
        if spec.paired:
            levels = max(levels, spec[source].levels or 0)
        else:
            needed = _spans(width, density, mean_span)
        tokens = _special_tokens(spec, levels, needed)
        if vocabulary is not None and vocabulary < tokens.count:
            raise ConfigError(
                f"model.vocabulary={vocabulary} is too small for this data",
                f"give at least {tokens.count}",
            )
        rows = vocabulary or tokens.count
        silent = {*tokens.special, *tokens.sentinels, *range(levels, rows)} - {tokens.eos}
        return cls(
            paired=spec.paired,
            source=source,
            target=target,
            width=width,
            levels=levels,
            vocabulary=rows,
            pad=tokens.pad,
            eos=tokens.eos,
            sentinels=tokens.sentinels,
            silent=tuple(sorted(silent)),
            density=density,
            mean_span=mean_span,
        )

    def read(self, batch: Batch, keys: Keys | None) -> Pair:
        """Return the pairs of a batch.

        Args:
          keys: of the corruption of running text; not needed for paired data.

        Raises:
          ConfigError: the tokenizer has too few sentinels for the spans of a row. Sampling needs only one.
        """
        row = batch["mask"][:, None]
        target = batch[self.target].astype(jnp.int32)
        if self.paired:
            source = batch[self.source].astype(jnp.int32)
            source_length = batch[length_of(self.source)]
            target_length = batch[length_of(self.target)]
        else:
            if keys is None:
                raise ValueError("dropping spans of running text needs a key per row")
            self._check_sentinels(target.shape[1])
            drop = functools.partial(
                drop_spans,
                sentinels=jnp.asarray(self.sentinels, jnp.int32),
                eos=self.eos,
                pad=self.pad,
                density=self.density,
                mean_span=self.mean_span,
            )
            found = jax.vmap(drop)(keys, target, self._lengths(batch))
            source, source_length, target, target_length = found
        seen = inside(source, source_length).astype(jnp.float32)
        return Pair(source, seen, target, inside(target, target_length) * row)

    def example(self) -> Pair:
        """Return one pair of the elements' types, of 4 tokens each: enough to make the parameters."""
        tokens = jnp.zeros((1, 4), jnp.int32)
        ones = jnp.ones((1, 4), jnp.float32)
        return Pair(tokens, ones, tokens, ones)

    def _check_sentinels(self, length: int) -> None:
        needed = _spans(length, self.density, self.mean_span)
        if len(self.sentinels) < needed:
            raise ConfigError(
                f"rows of {length} tokens lose up to {needed} spans, and the tokenizer has "
                f"{len(self.sentinels)} sentinels",
                "a shorter data.length, a longer model.mean_span, or a tokenizer with more sentinels",
            )

    def _lengths(self, batch: Batch) -> Int[Array, " B"]:
        """Return how many tokens of each row are text; rows of several documents are read as one."""
        B, T = batch[self.target].shape
        if SEGMENT in batch:
            return (batch[SEGMENT] > 0).sum(-1)
        if TOKEN_MASK in batch:
            # The mask is of targets: the first token of a row always counts.
            return 1 + (batch[TOKEN_MASK] > 0).sum(-1)
        return jnp.full((B,), T, jnp.int32)

    def shift(self, target: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """Return the inputs from which a decoder predicts the target: pad, then the target but its last."""
        return jnp.concatenate([jnp.full_like(target[:, :1], self.pad), target[:, :-1]], axis=1)

    def trim(self, target: Int[Array, "B T"]) -> tuple[Int[Array, "B T"], Int[Array, " B"]]:
        """Return a sampled target with padding after its first eos, and its length, eos included."""
        # Positions strictly after the first eos: the count of eos before them is positive.
        ended = jnp.cumsum(target == self.eos, axis=1) - (target == self.eos) > 0
        return jnp.where(ended, self.pad, target), (~ended).sum(-1).astype(jnp.int32)

    def ask(self, prompt: Int[Array, "B P"], lengths: Int[Array, " B"]) -> Batch:
        """Return the source that asks for the text after these tokens: tokens, first sentinel, eos."""
        P = prompt.shape[1]
        at = jnp.arange(P + 2)[None]
        end = lengths[:, None]
        source = jnp.pad(prompt, ((0, 0), (0, 2)))
        source = jnp.where(at == end, self.sentinels[0], source)
        source = jnp.where(at == end + 1, self.eos, source)
        source = jnp.where(at > end + 1, self.pad, source)
        return {self.source: source, length_of(self.source): lengths + 2}


def inside(tokens: Int[Array, "B T"], lengths: Int[Array, " B"]) -> Array:
    """Return True (B x T) on the first `lengths` tokens of each row."""
    return jnp.arange(tokens.shape[1])[None] < lengths[:, None]


def _paired_names(spec: Spec) -> tuple[str, str]:
    """Return (source, target): the only condition and the only target that are sequences of tokens."""
    conditions = _sequences(spec, spec.conditions)
    targets = _sequences(spec, spec.targets)
    if len(conditions) != 1 or len(targets) != 1:
        raise ConfigError(
            f"this paired data has {len(conditions)} conditions and {len(targets)} targets that are text",
            "choose data with one source text and one target text",
        )
    return conditions[0], targets[0]


def _sequences(spec: Spec, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if spec[name].levels and len(spec[name].shape) == 1]


def _running_text(spec: Spec) -> str:
    """Return the name of the target if it is running text."""
    name = discrete_target(spec)
    if not is_running(spec[name]) or len(spec[name].shape) != 1:
        raise ConfigError(f"no text among {sorted(spec.elements)}", "choose data with text or pairs of texts")
    return name


def _spans(length: int, density: float, mean_span: float) -> int:
    """Return the largest number of spans that a row of at most `length` tokens loses."""
    return max(span_sizes(n, density, mean_span).spans for n in range(length + 1))


def _special_tokens(spec: Spec, levels: int, needed: int) -> _Tokens:
    """Return the tokenizer's special tokens; those that it lacks get the ids after its own."""
    special = dict(spec.special)
    count = levels
    for name in ("pad", "eos"):
        if name not in special:
            special[name] = count
            count += 1
    names = [f"sentinel_{i}" for i in range(len(special))]
    sentinels = [special[name] for name in names if name in special]
    if not sentinels:
        sentinels = list(range(count, count + max(needed, 1)))
        count += len(sentinels)
    return _Tokens(special["pad"], special["eos"], tuple(sentinels), frozenset(special.values()), count)
