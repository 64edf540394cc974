"""Attention: one function that keeps the fastest form for the backend, and the layer around it."""

from __future__ import annotations

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

Implementation = Literal["auto", "dense", "chunked", "cudnn"]

CHUNK = 512
"""Queries that the chunked form looks at together."""
LONG = 2048
"""Sequences from this length on are attended to in chunks where the backend has no fused kernel."""


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

    def write(self, key: Float[Array, "B T K D"], value: Float[Array, "B T K D"], at: Int[Array, " B"]) -> KV:
        """With row b's slots at[b], at[b] + 1, ... replaced by these."""

        def row(old: jax.Array, new: jax.Array, slot: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice(old, new.astype(old.dtype), (0, slot, 0))

        put = jax.vmap(row)
        return KV(put(self.key, _heads_first(key), at), put(self.value, _heads_first(value), at))

    def attend(
        self, query: Float[Array, "B T H D"], positions: Int[Array, "B T"], *, chunked: bool = False
    ) -> Float[Array, "B T H D"]:
        """Attention of queries that see the slots up to their `positions`."""
        long = min(query.shape[1], self.key.shape[2]) >= LONG
        return (_chunked if chunked or long else _dense)(query, self.key, self.value, positions)


def attend(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B S K D"],
    value: Float[Array, "B S K D"],
    *,
    causal: bool = False,
    implementation: Implementation = "auto",
) -> Float[Array, "B T H D"]:
    """softmax(query key^T / sqrt(D)) value (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      key, value: K heads, each shared by H / K query heads.
      causal: query t sees keys up to t.
      implementation: "dense" forms all scores at once; "chunked" forms those of a few queries at a time and
        forms them again for the gradient, so that nothing quadratic is kept; "cudnn" is cuDNN's fused kernel
        (NVIDIA, half precision). "auto" is cudnn where it can be, else chunked for long ones, else dense.
    """
    T, S = query.shape[1], key.shape[1]
    if implementation == "auto":
        fused = jax.default_backend() == "gpu" and query.dtype == jnp.bfloat16
        implementation = "cudnn" if fused else "chunked" if min(T, S) >= LONG else "dense"
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation="cudnn")
    last = jnp.arange(T) if causal else jnp.full((T,), S - 1)
    form = _chunked if implementation == "chunked" else _dense
    return form(query, _heads_first(key), _heads_first(value), last[None])


def _heads_first(x: Float[Array, "B S K D"]) -> Float[Array, "B K S D"]:
    return x.transpose(0, 2, 1, 3)


def _dense(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    positions: Int[Array, "B|1 T"],
) -> Float[Array, "B T H D"]:
    """All scores at once, heads before positions in every product: so written, XLA's CPU compiler makes no
    more copies than these, and a block took 0.64 of the time of "bthd,bshd->bhts" with separate projections.
    """
    B, T, H, D = query.shape
    K, S = key.shape[1], key.shape[2]
    # Queries that share a key head stand below one another, so that they share its product too.
    q = query.reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, D)
    scores = jnp.einsum("bknd,bksd->bkns", q * D**-0.5, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, K, H // K, T, S)
    visible = jnp.arange(S)[None, None, :] <= positions[:, :, None]
    # A large number, not infinity: a row that sees nothing stays finite, as does its gradient.
    scores = jnp.where(visible[:, None, None], scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype).reshape(B, K, -1, S)
    out = jnp.einsum("bkns,bksd->bknd", weights, value)
    return out.reshape(B, K, H // K, T, D).transpose(0, 3, 1, 2, 4).reshape(B, T, H, D)


def _chunked(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B K S D"],
    value: Float[Array, "B K S D"],
    positions: Int[Array, "B|1 T"],
) -> Float[Array, "B T H D"]:
    """CHUNK queries after another; only the inputs are kept for the gradient."""
    B, T, H, D = query.shape
    pad = -T % CHUNK
    q = jnp.pad(query, ((0, 0), (0, pad), (0, 0), (0, 0))).reshape(B, -1, CHUNK, H, D).swapaxes(0, 1)
    p = jnp.pad(positions, ((0, 0), (0, pad))).reshape(positions.shape[0], -1, CHUNK).swapaxes(0, 1)
    part = jax.checkpoint(lambda x: _dense(x[0], key, value, x[1]))
    out = jax.lax.map(part, (q, p)).swapaxes(0, 1)
    return out.reshape(B, T + pad, H, D)[:, :T]


class Attention(nn.Module):
    """Multi-head self-attention; grouped queries where kv_heads < heads (Ainslie et al. 2023).

    Attributes:
      init_std, out_std: initial standard deviations of the projections in and out.
    """

    heads: int
    kv_heads: int
    bias: bool
    causal: bool
    rope: bool
    dropout: float
    implementation: Implementation
    init_std: float
    out_std: float
    dtype: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        cache: KV | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T W"], KV | None]:
        B, T, W = x.shape
        D = W // self.heads
        features = {"query": W, "key": self.kv_heads * D, "value": self.kv_heads * D}
        project = Linears(features, bias=self.bias, std=self.init_std, dtype=self.dtype, name="project")
        q, k, v = (y.reshape(B, T, -1, D) for y in project(x))
        if self.rope:
            q, k = rotary(q, positions), rotary(k, positions)
        if cache is None:
            out = attend(q, k, v, causal=self.causal, implementation=self.implementation)
        else:
            cache = cache.write(k, v, positions[:, 0])
            out = cache.attend(q, positions, chunked=self.implementation == "chunked")
        linear = Linear(W, bias=self.bias, std=self.out_std, dtype=self.dtype, name="out")
        return dropout(linear(out.reshape(B, T, W)), self.dropout, keys), cache
