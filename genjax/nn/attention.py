"""Compute attention: one function that chooses the fastest implementation for the backend, and a KV cache.

The layers that project queries, keys and values are in nn.attention_layers.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.errors import ConfigError
from genjax.nn.relative import Bias

Implementation = Literal["auto", "dense", "chunked", "banded", "cudnn"]

CHUNK = 512
"""Largest number of queries in one chunk of the chunked implementation."""
PARTS = 4
"""Number of parts that long causal attention is divided into; each part reads the keys up to its end."""
SCORES = 2**27
"""Largest number of scores held at once by the chunked implementation: half a GiB in float32."""
LONG = 2048
"""Length from which a sequence is processed in chunks where the backend has no fused kernel. Shorter
sequences are processed in chunks too if they have more than SCORES scores."""


@struct.dataclass
class Rule:
    """Describe how scores are computed and which keys each query sees.

    The mask is computed for the queries at hand, never for all T x S pairs at once. A slot is a token's
    index within its row, from 0; the queries of one call occupy consecutive slots.

    Attributes:
      scale: factor on the products of queries and keys; None for D**-0.5.
      causal: query t sees the keys in slots 0 to t.
      window: a query sees the keys less than `window` slots away (its own included); 0 for all keys.
      cap: scores become cap * tanh(scores / cap) (Gemma 2: arXiv:2408.00118); None for no cap.
      bias: relative position bias, added to the scores.
      query_segment, key_segment: a query sees only keys of its own segment, and no key of segment 0.
        Without query_segment it sees all keys that are not in segment 0.
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
        """Restrict the segments to the queries in slots [first, end) and the keys in slots [0, end)."""
        query = None if self.query_segment is None else self.query_segment[:, first:end]
        key = None if self.key_segment is None else self.key_segment[:, :end]
        return self.replace(query_segment=query, key_segment=key)

    def visible(self, at: Int[Array, "b T"], slots: Int[Array, "b S"]) -> jax.Array | None:
        """Return the mask of the keys that each query sees; None if every query sees every key.

        Args:
          at: slots of the queries; b is 1 or B.
          slots: slots of the keys; b is 1 or B.

        Returns:
          Booleans, b x T x S or B x T x S.
        """
        away = at[:, :, None] - slots[:, None, :]
        parts = []
        if self.causal:
            parts.append(away >= 0)
        if self.window:
            # A causal mask already hides the keys ahead, so that only the distance backwards is limited.
            parts.append((away if self.causal else jnp.abs(away)) < self.window)
            # Slots before the row's first are padding (see _banded).
            parts.append(jnp.broadcast_to(slots[:, None, :] >= 0, away.shape))
        if self.key_segment is not None:
            key = self.key_segment[:, None, :]
            parts.append(key > 0)
            if self.query_segment is not None:
                parts.append(self.query_segment[:, :, None] == key)
        if not parts:
            return None
        seen = parts[0]
        for part in parts[1:]:
            # Rank promotion is an error, and the parts differ in their leading axes (1 or B).
            seen = jnp.logical_and(*jnp.broadcast_arrays(seen, part))
        return seen


@struct.dataclass
class KV:
    """Hold one layer's keys and values, S slots per row.

    Heads come before slots, so that a decoding step reads the cache without a transposed copy. Rows may
    have filled different numbers of slots.
    """

    key: Float[Array, "B K S D"]
    value: Float[Array, "B K S D"]

    @classmethod
    def empty(cls, num: int, heads: int, length: int, features: int, dtype: str) -> KV:
        """Return a zero cache for `num` rows of `length` tokens."""
        shape = (num, heads, length, features)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @classmethod
    def of(cls, key: Float[Array, "B S K D"], value: Float[Array, "B S K D"]) -> KV:
        """Return a cache whose slots hold these keys and values, all of them filled."""
        return cls(_heads_first(key), _heads_first(value))

    def write(self, key: Float[Array, "B T K D"], value: Float[Array, "B T K D"], at: Int[Array, " B"]) -> KV:
        """Return the cache with slots at[b], at[b] + 1, ... of row b replaced by these keys and values."""

        def row(old: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(old, new.astype(old.dtype), (0, slot, 0))

        def put(old: jax.Array, new: jax.Array) -> jax.Array:
            if len(at) > 1:
                return jax.vmap(row)(old, new, at)
            # One row: XLA's CPU compiler evaluates a dynamic_update_slice twice, once for the product and
            # once for the loop's result, with four copies of the cache. A scatter over heads and slots
            # runs once and in place.
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
        """Compute attention of the queries in slots `positions` to the cached keys and values.

        Args:
          rule: causal by default: a query sees the slots up to its own.
          chunked: process the queries in chunks whatever their number.
        """
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
    """Compute softmax(query key^T / sqrt(D)) value (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      key, value: K heads, each shared by H / K query heads (Ainslie et al. 2023, arXiv:2305.13245).
      rule: scale, cap, bias, windows and segments; Rule(causal=causal) if None.
      implementation: "dense" computes all scores at once. "chunked" computes the scores of a few queries at
        a time and recomputes them in the backward pass, so that nothing quadratic is stored; with a window
        it reads only the keys within reach. "banded" divides the sequence into blocks as long as the window,
        each of which reads its own keys and those of the block before it; it needs a causal window and has no
        bias. "cudnn" is cuDNN's fused kernel (NVIDIA, half precision; without cap, bias or segments). "auto"
        is "cudnn" where that is possible, else "chunked" for long sequences, else "banded" for windows much
        shorter than the sequence, else "dense".

    Raises:
      ConfigError: "banded" without a causal window, or with a bias.
    """
    rule = Rule(causal=causal) if rule is None else rule
    if implementation == "auto":
        implementation = _fastest(query, key.shape[1], rule)
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
    key = _heads_first(key)
    value = _heads_first(value)
    if implementation == "banded":
        return _banded(query, key, value, rule)
    if implementation == "dense":
        return _dense(query, key, value, jnp.arange(query.shape[1])[None], rule)
    return _in_parts(query, key, value, rule)


def _fastest(query: Float[Array, "B T H D"], slots: int, rule: Rule) -> Implementation:
    """Choose the implementation for these queries on the default backend."""
    plain = rule.cap is None and rule.bias is None and rule.key_segment is None
    fused = jax.default_backend() == "gpu" and query.dtype == jnp.bfloat16
    if fused and plain and (rule.causal or not rule.window):
        return "cudnn"
    if _long(query, slots):
        return "chunked"
    # Two blocks of keys per query must be well below all of them; short blocks make narrow products.
    if rule.causal and rule.bias is None and query.shape[1] == slots and 16 <= rule.window <= slots // 3:
        return "banded"
    return "dense"


def _long(query: Float[Array, "B T H D"], slots: int) -> bool:
    """Return True if these queries have too many scores to compute all at once."""
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
    """Compute attention with all scores at once.

    Heads come before positions in every product. XLA's CPU compiler then makes no copies beyond the
    transposes written here; a block took 0.64 of the time of "bthd,bshd->bhts" with separate projections.

    Args:
      at: slots of the queries.
      first: slot of the first key; 0 if None.
    """
    B, T, H, D = query.shape
    K, S = key.shape[1:3]
    first = jnp.zeros((1,), at.dtype) if first is None else first
    scale = D**-0.5 if rule.scale is None else rule.scale
    # The H / K query heads that share a key head are stacked along one axis, B x K x (H/K T) x D, so that
    # one product computes the scores of all of them.
    q = query.reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, D)
    # float32 scores whatever the inputs' dtype: the softmax is computed in float32.
    scores = jnp.einsum("bknd,bksd->bkns", q * scale, key, preferred_element_type=jnp.float32)
    # Rank 4 throughout: at rank 5 (B K H/K T S) the softmax's gradient took 1.5 times as long.
    if rule.bias is not None:
        scores = scores + rule.bias(at[:, 0], first, T, S).reshape(-1, *scores.shape[1:])
    if rule.cap is not None:
        scores = rule.cap * jnp.tanh(scores / rule.cap)
    seen = rule.visible(at, first[:, None] + jnp.arange(S)[None])
    if seen is not None:
        # All query heads have the same mask: repeat its T rows for each of the stacked heads.
        seen = jnp.tile(jnp.broadcast_to(seen, (len(seen), T, S)), (1, H // K, 1))
        # -1e30, not -inf: the softmax of a row that sees no key, and its gradient, stay finite.
        scores = jnp.where(seen[:, None], scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = jnp.einsum("bkns,bksd->bknd", weights, value)
    # Undo the stacking of the query heads.
    return out.reshape(B, K, H // K, T, D).transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)


def _near(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    at: Int[Array, "b T"],
    rule: Rule,
) -> Float[Array, "B T H D"]:
    """Compute dense attention to the keys that the window of at least one query reaches."""
    S = key.shape[2]
    # T consecutive queries and window - 1 keys before them (and, if not causal, as many after them).
    reach = query.shape[1] + (rule.window - 1) * (1 if rule.causal else 2)
    if not rule.window or reach >= S:
        return _dense(query, key, value, at, rule)
    first = jnp.clip(at[:, 0] - rule.window + 1, 0, S - reach)

    def cut(x: jax.Array, axis: int) -> jax.Array:
        if len(first) == 1:
            return jax.lax.dynamic_slice_in_dim(x, first[0], reach, axis)
        # Rows begin at different slots. vmap removes the batch axis, hence axis - 1.
        return jax.vmap(lambda row, n: jax.lax.dynamic_slice_in_dim(row, n, reach, axis - 1))(x, first)

    if rule.key_segment is not None:
        rule = rule.replace(key_segment=cut(rule.key_segment, 1))
    return _dense(query, cut(key, 2), cut(value, 2), at, rule, first)


def _banded(
    query: Float[Array, "B T H D"], key: Float[Array, "B K T D"], value: Float[Array, "B K T D"], rule: Rule
) -> Float[Array, "B T H D"]:
    """Compute causal attention within a window of w tokens: T x 2w scores in place of T x T.

    A query reaches at most w - 1 tokens back, that is into its own block of w tokens and the block before it.
    """
    if not (rule.causal and rule.window) or rule.bias is not None:
        raise ConfigError(
            "implementation='banded' needs causal attention with a window, and has no relative positions",
            "use auto",
        )
    B, T, H, D = query.shape
    K = key.shape[1]
    w = rule.window
    pad = -T % w
    n = (T + pad) // w

    def blocks(x: jax.Array) -> jax.Array:
        """Divide queries or segments into rows of one block: B x T x ... -> (B n) x w x ..."""
        x = jnp.pad(x, ((0, 0), (0, pad), *((0, 0) for _ in x.shape[2:])))
        return x.reshape(B * n, w, *x.shape[2:])

    def pairs(x: jax.Array) -> jax.Array:
        """Return each block with the block before it: B x T x ... -> (B n) x 2w x ..."""
        # w zeros before the first token: the block before the first one. Its slots are negative.
        x = jnp.pad(x, ((0, 0), (w, pad), *((0, 0) for _ in x.shape[2:])))
        x = x.reshape(B, n + 1, w, *x.shape[2:])
        return jnp.concatenate([x[:, :-1], x[:, 1:]], 2).reshape(B * n, 2 * w, *x.shape[3:])

    def pairs_of_heads(x: jax.Array) -> jax.Array:
        """Return the same of keys or values: B x K x T x D -> (B n) x K x 2w x D."""
        x = jnp.pad(x, ((0, 0), (0, 0), (w, pad), (0, 0))).reshape(B, K, n + 1, w, D)
        return jnp.concatenate([x[:, :, :-1], x[:, :, 1:]], 3).swapaxes(1, 2).reshape(B * n, K, 2 * w, D)

    if rule.query_segment is not None:
        rule = rule.replace(query_segment=blocks(rule.query_segment))
    if rule.key_segment is not None:
        rule = rule.replace(key_segment=pairs(rule.key_segment))
    begin = jnp.tile(jnp.arange(n) * w, B)
    at = begin[:, None] + jnp.arange(w)[None]
    out = _dense(blocks(query), pairs_of_heads(key), pairs_of_heads(value), at, rule, begin - w)
    return out.reshape(B, n * w, H, D)[:, :T]


def _in_parts(
    query: Float[Array, "B T H D"], key: Float[Array, "B K S D"], value: Float[Array, "B K S D"], rule: Rule
) -> Float[Array, "B T H D"]:
    """Compute chunked attention; long causal attention in PARTS parts of the queries."""
    T = query.shape[1]
    # A causal query sees no key beyond its own slot: each part reads the keys up to the part's end, which
    # saves (PARTS - 1) / (2 PARTS) of the products.
    parts = PARTS if rule.causal and not rule.window and T == key.shape[2] >= PARTS * CHUNK else 1
    ends = [-(-T * (n + 1) // parts) for n in range(parts)]
    out = [
        _chunked(query[:, a:b], key[:, :, :b], value[:, :, :b], jnp.arange(a, b)[None], rule.cut(a, b))
        for a, b in zip([0, *ends], ends, strict=False)
    ]
    return jnp.concatenate(out, axis=1)


def _chunked(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    at: Int[Array, "b T"],
    rule: Rule,
) -> Float[Array, "B T H D"]:
    """Compute attention one chunk of queries after another; store only the inputs for the backward pass."""
    B, T, H, D = query.shape
    # At most CHUNK queries and SCORES scores, but at least 16 queries, so that the products stay wide.
    size = min(CHUNK, T, max(SCORES // (B * H * key.shape[2]), 16))
    pad = -T % size

    def split(x: jax.Array) -> jax.Array:
        """Pad the queries to whole chunks and move the chunks first: B x T x ... -> n x B x size x ..."""
        x = jnp.pad(x, ((0, 0), (0, pad), *((0, 0) for _ in x.shape[2:])))
        return x.reshape(x.shape[0], -1, size, *x.shape[2:]).swapaxes(0, 1)

    def part(queries: tuple[jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        q, at, segment = queries
        return _near(q, key, value, at, rule.replace(query_segment=segment))

    segment = None if rule.query_segment is None else split(rule.query_segment)
    # checkpoint: the backward pass recomputes each chunk's scores instead of storing T x S of them.
    out = jax.lax.map(jax.checkpoint(part), (split(query), split(at), segment)).swapaxes(0, 1)
    return out.reshape(B, T + pad, H, D)[:, :T]
