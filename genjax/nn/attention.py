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
from genjax.nn.linear import Linear

Implementation = Literal["auto", "dense"]


@struct.dataclass
class KV:
    """One layer's keys and values of `length` slots; rows may have filled different numbers of them."""

    key: Float[Array, "B S K D"]
    value: Float[Array, "B S K D"]


def attend(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B S K D"],
    value: Float[Array, "B S K D"],
    *,
    causal: bool = False,
    positions: Int[Array, "B T"] | None = None,
    implementation: Implementation = "auto",
) -> Float[Array, "B T H D"]:
    """softmax(query key^T / sqrt(D)) value (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

    Args:
      key, value: K heads, each shared by H / K query heads.
      causal: query t sees keys up to t.
      positions: query t of row b sees keys up to positions[b, t] (a cache that rows have filled unevenly).
      implementation: "auto", "dense".
    """
    B, T, H, D = query.shape
    S, K = key.shape[1], key.shape[2]
    q = query.reshape(B, T, K, H // K, D)
    scores = jnp.einsum("btkgd,bskd->bkgts", q, key, preferred_element_type=jnp.float32) * D**-0.5
    if causal:
        visible = (jnp.arange(S)[None, :] <= jnp.arange(T)[:, None])[None, None, None]
        scores = jnp.where(visible, scores, -jnp.inf)
    if positions is not None:
        visible = jnp.arange(S)[None, None, :] <= positions[:, :, None]
        scores = jnp.where(visible[:, None, None], scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, value).reshape(B, T, H, D)


def write(
    cache: Float[Array, "B S *shape"], new: Float[Array, "B T *shape"], at: Int[Array, " B"]
) -> jax.Array:
    """`cache` with row b's slots at[b], at[b] + 1, ... replaced by `new`."""
    zeros = (0,) * (cache.ndim - 2)
    return jax.vmap(lambda c, n, i: jax.lax.dynamic_update_slice(c, n.astype(c.dtype), (i, *zeros)))(
        cache, new, at
    )


class Attention(nn.Module):
    """Multi-head self-attention; grouped-query where kv_heads < heads (Ainslie et al. 2023, arXiv:2305.13245).

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

        def dense(name: str, features: int, std: float) -> Linear:
            return Linear(features, bias=self.bias, std=std, dtype=self.dtype, name=name)

        q = dense("query", W, self.init_std)(x).reshape(B, T, self.heads, D)
        k = dense("key", self.kv_heads * D, self.init_std)(x).reshape(B, T, self.kv_heads, D)
        v = dense("value", self.kv_heads * D, self.init_std)(x).reshape(B, T, self.kv_heads, D)
        if self.rope:
            q, k = rotary(q, positions), rotary(k, positions)
        if cache is None:
            out = attend(q, k, v, causal=self.causal, implementation=self.implementation)
        else:
            cache = KV(write(cache.key, k, positions[:, 0]), write(cache.value, v, positions[:, 0]))
            out = attend(q, cache.key, cache.value, positions=positions, implementation=self.implementation)
        out = dense("out", W, self.out_std)(out.reshape(B, T, W))
        return dropout(out, self.dropout, keys), cache
