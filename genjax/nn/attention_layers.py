"""Define a transformer's attention layers: self-attention and cross-attention, with their projections."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.nn.attention import KV, Implementation, Rule, attend
from genjax.nn.dropout import dropout
from genjax.nn.embedding import rotary, rotary_plane
from genjax.nn.linear import Linear, Linears
from genjax.nn.norms import RMSNorm
from genjax.nn.relative import Bias


@dataclasses.dataclass(frozen=True)
class Form:
    """Describe one attention layer; nn.transformer.Stack documents the fields, here for one layer.

    Attributes:
      features: features of one head.
      rope_base: base of the rotary positions; None for none.
      window: number of visible tokens; 0 for all.
      std, query_std, out_std: initial standard deviations of the kernels of keys and values, of queries,
        and of the output projection.
    """

    width: int
    heads: int
    kv_heads: int
    features: int
    bias: bool
    causal: bool
    rope_base: float | None
    qk_norm: bool
    logit_cap: float | None
    window: int
    scale: float | None
    epsilon: float
    dropout: float
    implementation: Implementation
    std: float
    query_std: float
    out_std: float
    dtype: str

    def sizes(self, *names: str) -> dict[str, int]:
        """Return the output width of each of these projections ("query", "key", "value")."""
        return {n: (self.heads if n == "query" else self.kv_heads) * self.features for n in names}

    def stds(self, *names: str) -> dict[str, float]:
        """Return the initial standard deviation of each of these projections' kernels."""
        return {n: self.query_std if n == "query" else self.std for n in names}


class _Heads(nn.Module):
    """Provide the projections and the query and key norms common to self- and cross-attention."""

    form: Form

    def linears(self, *names: str) -> Linears:
        f = self.form
        return Linears(f.sizes(*names), bias=f.bias, std=f.stds(*names), dtype=f.dtype)

    def common(self) -> None:
        """Create the submodules that both layers have; called from `setup`."""
        f = self.form
        self.out = Linear(f.width, bias=f.bias, std=f.out_std, dtype=f.dtype)
        if f.qk_norm:
            self.query_norm = RMSNorm(f.epsilon)
            self.key_norm = RMSNorm(f.epsilon)

    def split(self, x: Float[Array, "B T _"]) -> Float[Array, "B T _ D"]:
        """Split the last axis into heads of D features."""
        return x.reshape(*x.shape[:2], -1, self.form.features)

    def join(self, x: Float[Array, "B T H D"], keys: Keys | None) -> Float[Array, "B T W"]:
        """Concatenate the heads, project them to the width and apply dropout."""
        return dropout(self.out(x.reshape(*x.shape[:2], -1)), self.form.dropout, keys)


class Attention(_Heads):
    """Compute multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762, sec. 3.2.2).

    With kv_heads < heads the queries are grouped (Ainslie et al. 2023, arXiv:2305.13245).
    """

    def setup(self):
        self.project = self.linears("query", "key", "value")
        self.common()

    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"] | Int[Array, "B T 2"],
        cache: KV | None = None,
        keys: Keys | None = None,
        *,
        segments: Int[Array, "B T"] | None = None,
        bias: Bias | None = None,
    ) -> tuple[Float[Array, "B T W"], KV | None]:
        """Return the attended sequence and the cache with the new keys and values written.

        Args:
          positions: for rotary positions; with a cache also the slots that the keys are written to. Without
            one they may be rows and columns of an image.
          keys: PRNG keys of dropout; None for no dropout.
          segments: a token sees only tokens of its own segment, and none of segment 0. Ignored with a cache.
          bias: relative position bias, added to the scores.
        """
        f = self.form
        q, k, v = (self.split(y) for y in self.project(x))
        if f.qk_norm:
            q = self.query_norm(q)
            k = self.key_norm(k)
        if f.rope_base is not None:
            rotate = rotary if positions.ndim == 2 else rotary_plane
            q = rotate(q, positions, f.rope_base)
            k = rotate(k, positions, f.rope_base)
        rule = Rule(f.scale, f.causal, f.window, f.logit_cap, bias, segments, segments)
        if cache is None:
            out = attend(q, k, v, rule, implementation=f.implementation)
        else:
            cache = cache.write(k, v, positions[:, 0])
            # Causal whatever the form says: the slots beyond a query's own hold no valid keys yet.
            rule = rule.replace(causal=True, query_segment=None, key_segment=None)
            out = cache.attend(q, positions, rule, chunked=f.implementation == "chunked")
        return self.join(out, keys), cache


class CrossAttention(_Heads):
    """Compute attention of a sequence to a memory, whose keys and values are projected once (`remember`)."""

    def setup(self):
        self.project = self.linears("query")
        self.memory = self.linears("key", "value")
        self.common()

    def remember(self, memory: Float[Array, "B S M"]) -> KV:
        """Project the memory to keys and values."""
        key, value = (self.split(y) for y in self.memory(memory))
        return KV.of(self.key_norm(key) if self.form.qk_norm else key, value)

    def __call__(
        self,
        x: Float[Array, "B T W"],
        memory: KV,
        keys: Keys | None = None,
        *,
        mask: Float[Array, "B S"] | Int[Array, "B S"] | None = None,
    ) -> Float[Array, "B T W"]:
        """Return the attended sequence.

        Args:
          keys: PRNG keys of dropout; None for no dropout.
          mask: 0 marks the memory's padding, which no query sees.
        """
        f = self.form
        q = self.split(self.project(x)[0])
        if f.qk_norm:
            q = self.query_norm(q)
        # Padding is segment 0 and everything else segment 1; without query segments all of 1 is visible.
        seen = None if mask is None else (mask > 0).astype(jnp.int32)
        rule = Rule(f.scale, cap=f.logit_cap, key_segment=seen)
        out = memory.attend(q, jnp.arange(x.shape[1])[None], rule, chunked=f.implementation == "chunked")
        return self.join(out, keys)
