"""Text to text: what every sequence-to-sequence model reads and writes, whatever the data holds.

Data of pairs (`source`, `source_length`, `target`, `target_length`) is read as it is. Of running text
(`tokens`) a row's spans are dropped, and the target is what was dropped. Special tokens that the data's
tokenizer lacks (bytes and characters have none) get the numbers after its own.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Keys, Spec
from genjax.errors import ConfigError
from genjax.functional.corruption import drop_spans, span_sizes


class Pair(NamedTuple):
    """A batch of sources and targets; masks are 1 on what is no padding, in rows that count too."""

    source: Int[Array, "B S"]
    source_mask: Float[Array, "B S"]
    target: Int[Array, "B T"]
    target_mask: Float[Array, "B T"]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How rows of a spec become pairs.

    Attributes:
      paired: whether the data holds pairs; else it holds running text, of rows of `length` tokens.
      levels: tokens of the data's own.
      vocabulary: rows of an embedding table: `levels`, and the special tokens that were added.
      pad, eos: decoders begin with pad, as T5's do, and end with eos.
      sentinels: ids of the marks for dropped spans.
      silent: ids that a text never holds: special tokens, and those beyond the data's own.
      density, mean_span: see functional.corruption.
    """

    paired: bool
    length: int
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
        """The pairs of a spec.

        Args:
          vocabulary: rows of the embedding table where it has more than are needed.

        Raises:
          ConfigError: neither pairs nor tokens; too few sentinels; a vocabulary that is too small.
        """
        paired = "source" in spec and "target" in spec
        if not paired and "tokens" not in spec:
            raise ConfigError(
                f"no text among {sorted(spec.elements)}", "choose data with tokens, or with source and target"
            )
        if not (0 < density < 1 and mean_span >= 1):
            raise ConfigError(f"density {density}, mean_span {mean_span}", "0 < density < 1 <= mean_span")
        if paired:
            levels = max(spec[name].levels or 0 for name in ("source", "target"))
            length = needed = 0
        else:
            levels, length = spec["tokens"].levels or 0, math.prod(spec["tokens"].shape)
            needed = max(span_sizes(n, density, mean_span).spans for n in range(length + 1))
        special, top = dict(spec.special), levels
        for name in ("pad", "eos"):
            if name not in special:
                special[name], top = top, top + 1
        own = [special[f"sentinel_{i}"] for i in range(len(special)) if f"sentinel_{i}" in special]
        if not own:
            own, top = list(range(top, top + max(needed, 1))), top + max(needed, 1)
        if len(own) < needed:
            raise ConfigError(
                f"rows of {length} tokens lose {needed} spans, and the tokenizer has {len(own)} sentinels",
                "a shorter data.length, a longer model.mean_span, or a tokenizer with more sentinels",
            )
        if vocabulary is not None and vocabulary < top:
            raise ConfigError(f"model.vocabulary={vocabulary} is too small for this data", f"at least {top}")
        rows = vocabulary or top
        silent = {*special.values(), *own, *range(levels, rows)} - {special["eos"]}
        return cls(
            paired, length, levels, rows, special["pad"], special["eos"], tuple(own), tuple(sorted(silent)),
            density, mean_span,
        )  # fmt: skip

    def read(self, batch: Batch, keys: Keys | None) -> Pair:
        """The pairs of a batch.

        Args:
          keys: of the corruption, where the data holds no pairs.
        """
        row = batch["mask"][:, None]
        if self.paired:
            source, target = (batch[name].astype(jnp.int32) for name in ("source", "target"))
            lengths = batch["source_length"], batch["target_length"]
        else:
            tokens = batch["tokens"].astype(jnp.int32)
            drop = lambda key, row, length: drop_spans(
                key, row, length, sentinels=jnp.asarray(self.sentinels, jnp.int32), eos=self.eos,
                pad=self.pad, density=self.density, mean_span=self.mean_span,
            )  # fmt: skip
            source, n, target, m = jax.vmap(drop)(keys, tokens, self._lengths(batch))
            lengths = n, m
        inside = [
            jnp.arange(x.shape[1])[None] < n[:, None] for x, n in zip((source, target), lengths, strict=True)
        ]
        seen = inside[0].astype(jnp.float32)
        return Pair(source, seen, target, inside[1] * row)

    def _lengths(self, batch: Batch) -> Int[Array, " B"]:
        """How many tokens of each row are text: rows of several documents are read as one."""
        B, T = batch["tokens"].shape
        if "segment" in batch:
            return (batch["segment"] > 0).sum(-1)
        if "token_mask" in batch:
            return 1 + (batch["token_mask"] > 0).sum(-1)
        return jnp.full((B,), T, jnp.int32)

    def shift(self, target: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """What a decoder reads to predict the target: pad, then the target but its last token."""
        return jnp.concatenate([jnp.full_like(target[:, :1], self.pad), target[:, :-1]], axis=1)

    def trim(self, target: Int[Array, "B T"]) -> tuple[Int[Array, "B T"], Int[Array, " B"]]:
        """A drawn target with padding after its first eos, and its length, eos included."""
        ended = jnp.cumsum(target == self.eos, axis=1) - (target == self.eos) > 0
        return jnp.where(ended, self.pad, target), (~ended).sum(-1).astype(jnp.int32)

    def ask(self, prompt: Int[Array, "B P"], lengths: Int[Array, " B"]) -> Batch:
        """The source that asks for what comes after these tokens: they, the first sentinel, eos."""
        P = prompt.shape[1]
        at = jnp.arange(P + 2)[None]
        source = jnp.pad(prompt, ((0, 0), (0, 2)))
        source = jnp.where(at == lengths[:, None], self.sentinels[0], source)
        source = jnp.where(at == lengths[:, None] + 1, self.eos, source)
        return {
            "source": jnp.where(at > lengths[:, None] + 1, self.pad, source),
            "source_length": lengths + 2,
        }
