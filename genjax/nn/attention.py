"""Attention: one function that keeps the fastest form for the backend, and the layers around it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.nn.dropout import dropout
from genjax.nn.embedding import rotary
from genjax.nn.linear import Linear, Linears
from genjax.nn.norms import RMSNorm
from genjax.nn.relative import Bias

Implementation = Literal["auto", "dense", "chunked", "cudnn"]

CHUNK = 512
"""Queries that the chunked form looks at together, at most."""
PARTS = 4
"""How many parts long causal attention is made in, each with the keys up to its end."""
SCORES = 2**27
"""Scores that it forms at once, at most: half a GiB."""
LONG = 2048
"""Sequences from this length on are attended to in chunks where the backend has no fused kernel, and so are
shorter ones whose scores are more than SCORES."""


@struct.dataclass
class Rule:
    """How scores are made, and which are seen: formed for the queries at hand, never for all T x S at once.

    Slots count a row's tokens from 0; queries of one call stand in consecutive slots.

    Attributes:
      scale: of the products; None for D**-0.5.
      causal: query t sees keys up to slot t.
      window: a query sees keys less than this many slots away (itself included); 0 for all.
      cap: scores become cap * tanh(scores / cap) (Gemma 2: arXiv:2408.00118).
      bias: added to the scores, by distance.
      query_segment, key_segment: a query sees keys of its own segment alone, and no key of segment 0;
        without query_segment, all keys that are not of segment 0.
    """

    scale: float | None = struct.field(pytree_node=False, default=None)
    causal: bool = struct.field(pytree_node=False, default=False)
    window: int = struct.field(pytree_node=False, default=0)
    cap: float | None = struct.field(pytree_node=False, default=None)
    bias: Bias | None = None
    query_segment: Int[Array, "B T"] | None = None
    key_segment: Int[Array, "B S"] | None = None

    def replace(self, **changes) -> Rule:  # narrows the generated method's type
        return dataclasses.replace(self, **changes)

    def cut(self, first: int, end: int) -> Rule:
        """For the queries of these slots and the keys of all up to `end`."""
        query = None if self.query_segment is None else self.query_segment[:, first:end]
        key = None if self.key_segment is None else self.key_segment[:, :end]
        return self.replace(query_segment=query, key_segment=key)

    def visible(self, at: Int[Array, "b T"], slots: Int[Array, "b S"]) -> jax.Array | None:
        """Which of the keys in these slots each query sees, (b or B) x T x S; None where it is all."""
        away = at[:, :, None] - slots[:, None, :]
        parts = []
        if self.causal:
            parts.append(away >= 0)
        if self.window:
            parts.append((away if self.causal else jnp.abs(away)) < self.window)
        if self.key_segment is not None:
            key = self.key_segment[:, None, :]
            parts.append(key > 0)
            if self.query_segment is not None:
                parts.append(self.query_segment[:, :, None] == key)
        if not parts:
            return None
        seen = parts[0]
        for part in parts[1:]:
            seen = jnp.logical_and(*jnp.broadcast_arrays(seen, part))
        return seen


@struct.dataclass
class KV:
    """One layer's keys and values of S slots, heads first, so that a decoding step copies nothing.

    Rows may have filled different numbers of slots.
    """

    key: Float[Array, "B K S D"]
    value: Float[Array, "B K S D"]

    @classmethod
    def empty(cls, num: int, heads: int, length: int, features: int, dtype: str) -> KV:
        """No keys yet, for `num` rows of `length` tokens."""
        shape = (num, heads, length, features)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @classmethod
    def of(cls, key: Float[Array, "B S K D"], value: Float[Array, "B S K D"]) -> KV:
        """These keys and values, all slots filled."""
        return cls(_heads_first(key), _heads_first(value))

    def write(self, key: Float[Array, "B T K D"], value: Float[Array, "B T K D"], at: Int[Array, " B"]) -> KV:
        """With row b's slots at[b], at[b] + 1, ... replaced by these."""

        def row(old: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(old, new.astype(old.dtype), (0, slot, 0))

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            if len(at) > 1:
                return jax.vmap(row)(old, new, at)
            # XLA's CPU compiler makes a single update twice, for the product and for the loop's result, on
            # four copies of the cache. A scatter of every head's vectors is made once and in place.
            heads = jnp.arange(old.shape[1])[:, None]
            slots = at[0] + jnp.arange(new.shape[2])[None, :]
            return old.at[0, heads, slots].set(new[0], mode="drop", unique_indices=True)

        return KV(put(self.key, _heads_first(key)), put(self.value, _heads_first(value)))

    def attend(
        self,
        query: Float[Array, "B T H D"],
        positions: Int[Array, "B T"],
        rule: Rule = Rule(causal=True),
        *,
        chunked: bool = False,
    ) -> Float[Array, "B T H D"]:
        """Attention of queries in the slots `positions`; by default to the slots up to their own."""
        long = _long(query, self.key.shape[2])
        return (_chunked if chunked or long else _near)(query, self.key, self.value, positions, rule)


def attend(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B S K D"],
    value: Float[Array, "B S K D"],
    rule: Rule | None = None,
    *,
    causal: bool = False,
    implementation: Implementation = "auto",
) -> Float[Array, "B T H D"]:
    """softmax(query key^T / sqrt(D)) value (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      key, value: K heads, each shared by H / K query heads.
      rule: scale, cap, bias, windows and segments; `causal` in short for Rule(causal=True).
      implementation: "dense" forms all scores at once; "chunked" forms those of a few queries at a time and
        forms them again for the gradient, so that nothing quadratic is kept, and with a window looks only at
        the keys within its reach; "cudnn" is cuDNN's fused kernel (NVIDIA, half precision; no cap, bias or
        segments). "auto" is cudnn where it can be, else chunked for long ones, else dense.
    """
    rule = Rule(causal=causal) if rule is None else rule
    T, S = query.shape[1], key.shape[1]
    if implementation == "auto":
        plain = rule.cap is None and rule.bias is None and rule.key_segment is None
        fused = jax.default_backend() == "gpu" and query.dtype == jnp.bfloat16
        fused = fused and plain and (rule.causal or not rule.window)
        implementation = "cudnn" if fused else "chunked" if _long(query, S) else "dense"
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            scale=rule.scale,
            is_causal=rule.causal,
            local_window_size=(rule.window - 1, 0) if rule.window else None,
            implementation="cudnn",
        )
    key, value = _heads_first(key), _heads_first(value)
    if implementation == "dense":
        return _dense(query, key, value, jnp.arange(T)[None], rule)
    # A causal query sees nothing beyond itself: each part of the queries is given the keys up to its end.
    parts = PARTS if rule.causal and not rule.window and T == S >= PARTS * CHUNK else 1
    ends = [-(-T * (n + 1) // parts) for n in range(parts)]
    out = [
        _chunked(query[:, a:b], key[:, :, :b], value[:, :, :b], jnp.arange(a, b)[None], rule.cut(a, b))
        for a, b in zip([0, *ends], ends, strict=False)
    ]
    return jnp.concatenate(out, axis=1)


def _long(query: Float[Array, "B T H D"], slots: int) -> bool:
    """Whether the scores of these queries are too many to be formed at once."""
    B, T, H, _ = query.shape
    return min(T, slots) >= LONG or (T > 1 and B * H * T * slots > SCORES)


def _heads_first(x: Float[Array, "B S K D"]) -> Float[Array, "B K S D"]:
    return x.transpose(0, 2, 1, 3)


def _dense(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    at: Int[Array, "b T"],
    rule: Rule,
    first: Int[Array, " b"] | None = None,
) -> Float[Array, "B T H D"]:
    """All scores at once, heads before positions in every product: so written, XLA's CPU compiler makes no
    more copies than these, and a block took 0.64 of the time of "bthd,bshd->bhts" with separate projections.

    Args:
      at: the queries' slots. first: the slot of the first key; 0 where None.
    """
    B, T, H, D = query.shape
    K, S = key.shape[1], key.shape[2]
    first = jnp.zeros((1,), at.dtype) if first is None else first
    scale = D**-0.5 if rule.scale is None else rule.scale
    # Queries that share a key head stand below one another, so that they share its product too.
    q = query.reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, D)
    scores = jnp.einsum("bknd,bksd->bkns", q * scale, key, preferred_element_type=jnp.float32)
    # Of rank 4 throughout: at rank 5 the softmax's gradient took half as long again.
    if rule.bias is not None:
        scores = scores + rule.bias(at[:, 0], first, T, S).reshape(-1, *scores.shape[1:])
    if rule.cap is not None:
        scores = rule.cap * jnp.tanh(scores / rule.cap)
    seen = rule.visible(at, first[:, None] + jnp.arange(S)[None])
    if seen is not None:
        # A large number, not infinity: a row that sees nothing stays finite, as does its gradient.
        seen = jnp.tile(jnp.broadcast_to(seen, (len(seen), T, S)), (1, H // K, 1))
        scores = jnp.where(seen[:, None], scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("bkns,bksd->bknd", weights, value)
    return out.reshape(B, K, H // K, T, D).transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)


def _near(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    at: Int[Array, "b T"],
    rule: Rule,
) -> Float[Array, "B T H D"]:
    """_dense, of those keys alone that are within the window's reach of any of the queries."""
    S = key.shape[2]
    reach = query.shape[1] + (rule.window - 1) * (1 if rule.causal else 2)
    if not rule.window or reach >= S:
        return _dense(query, key, value, at, rule)
    first = jnp.clip(at[:, 0] - rule.window + 1, 0, S - reach)

    def cut(x: jax.Array, axis: int) -> jax.Array:
        if len(first) == 1:
            return jax.lax.dynamic_slice_in_dim(x, first[0], reach, axis)
        return jax.vmap(lambda row, n: jax.lax.dynamic_slice_in_dim(row, n, reach, axis - 1))(x, first)

    if rule.key_segment is not None:
        rule = rule.replace(key_segment=cut(rule.key_segment, 1))
    return _dense(query, cut(key, 2), cut(value, 2), at, rule, first)


def _chunked(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    at: Int[Array, "b T"],
    rule: Rule,
) -> Float[Array, "B T H D"]:
    """A few queries after another; only the inputs are kept for the gradient."""
    B, T, H, D = query.shape
    size = min(CHUNK, T, max(SCORES // (B * H * key.shape[2]), 16))
    pad = -T % size

    def split(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, pad), *((0, 0) for _ in x.shape[2:])))
        return x.reshape(x.shape[0], -1, size, *x.shape[2:]).swapaxes(0, 1)

    def part(queries: tuple[jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        q, at, segment = queries
        return _near(q, key, value, at, rule.replace(query_segment=segment))

    segment = None if rule.query_segment is None else split(rule.query_segment)
    out = jax.lax.map(jax.checkpoint(part), (split(query), split(at), segment)).swapaxes(0, 1)
    return out.reshape(B, T + pad, H, D)[:, :T]


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of one attention layer: see nn.transformer.Stack, whose fields these are for one layer.

    Attributes:
      features: of one head. std, query_std, out_std: initial standard deviations of the projections of keys
        and values, of queries, and out.
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
        """The widths of these projections."""
        return {n: (self.heads if n == "query" else self.kv_heads) * self.features for n in names}

    def stds(self, *names: str) -> dict[str, float]:
        """Their initial standard deviations."""
        return {n: self.query_std if n == "query" else self.std for n in names}


class _Heads(nn.Module):
    """What self- and cross-attention share: projections in and out, and norms of queries and keys."""

    form: Form

    def linears(self, *names: str) -> Linears:
        f = self.form
        return Linears(f.sizes(*names), bias=f.bias, std=f.stds(*names), dtype=f.dtype)

    def common(self) -> None:
        """The submodules of both."""
        f = self.form
        self.out = Linear(f.width, bias=f.bias, std=f.out_std, dtype=f.dtype)
        if f.qk_norm:
            self.query_norm, self.key_norm = RMSNorm(f.epsilon), RMSNorm(f.epsilon)

    def split(self, x: Float[Array, "B T _"]) -> Float[Array, "B T _ D"]:
        return x.reshape(*x.shape[:2], -1, self.form.features)

    def join(self, x: Float[Array, "B T H D"], keys: Keys | None) -> Float[Array, "B T W"]:
        return dropout(self.out(x.reshape(*x.shape[:2], -1)), self.form.dropout, keys)


class Attention(_Heads):
    """Multi-head self-attention; grouped queries where kv_heads < heads (Ainslie et al. 2023)."""

    def setup(self):
        self.project = self.linears("query", "key", "value")
        self.common()

    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        cache: KV | None = None,
        keys: Keys | None = None,
        *,
        segments: Int[Array, "B T"] | None = None,
        bias: Bias | None = None,
    ) -> tuple[Float[Array, "B T W"], KV | None]:
        """Args:
        positions: for rotary ones; with a cache, the slots too that the keys are written to.
        segments: a token sees those of its own segment, and none of segment 0. Not with a cache.
        """
        f = self.form
        q, k, v = (self.split(y) for y in self.project(x))
        if f.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        if f.rope_base is not None:
            q, k = rotary(q, positions, f.rope_base), rotary(k, positions, f.rope_base)
        rule = Rule(f.scale, f.causal, f.window, f.logit_cap, bias, segments, segments)
        if cache is None:
            out = attend(q, k, v, rule, implementation=f.implementation)
        else:
            cache = cache.write(k, v, positions[:, 0])
            rule = rule.replace(causal=True, query_segment=None, key_segment=None)
            out = cache.attend(q, positions, rule, chunked=f.implementation == "chunked")
        return self.join(out, keys), cache


class CrossAttention(_Heads):
    """Attention of a sequence to a memory, whose keys and values are projected once (`remember`)."""

    def setup(self):
        self.project, self.memory = self.linears("query"), self.linears("key", "value")
        self.common()

    def remember(self, memory: Float[Array, "B S M"]) -> KV:
        """The memory's keys and values."""
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
        """Args: mask: 0 at the memory's padding, which is not seen."""
        f = self.form
        q = self.split(self.project(x)[0])
        if f.qk_norm:
            q = self.query_norm(q)
        seen = None if mask is None else (mask > 0).astype(jnp.int32)
        rule = Rule(f.scale, cap=f.logit_cap, key_segment=seen)
        out = memory.attend(q, jnp.arange(x.shape[1])[None], rule, chunked=f.implementation == "chunked")
        return self.join(out, keys)
