"""Transformer blocks, pre- and post-norm, with and without a memory: what GPT, BERT and T5 are made of."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.nn.activations import GATED, PLAIN, Activation
from genjax.nn.attention import KV, Attention, CrossAttention, Form, Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.linear import Linear, Linears
from genjax.nn.norms import norm
from genjax.nn.relative import Bias, Relative, RelativeBias

EMBED = ("batch", "length", "embed")


@dataclasses.dataclass(frozen=True)
class Stack:
    """The form of a stack of blocks.

    Attributes:
      kv_heads: heads of keys and values, each shared by heads / kv_heads queries; None for as many.
      head_features: of one head, where heads * head_features is not the width (T5's d_kv).
      hidden: width of the MLP's inner layer.
      activation: of the MLP; relu2 is the squared ReLU (So et al. 2021, arXiv:2109.08668).
      bias: whether projections and layer norms have biases.
      prenorm: x + branch(norm(x)) (Xiong et al. 2020, arXiv:2002.04745); False for norm(x + branch(x)), as
        in the first transformers and BERT, which ends with its last block's norm.
      final_norm: whether a pre-norm stack ends with a norm.
      causal: whether a token sees those before it alone. With a cache it always does.
      rope, rope_base: rotary positions (functional of the positions given); else positions are the input's
        affair, or those of `relative`, T5's biases, whose table all layers share.
      qk_norm: RMSNorm of every head's queries and keys, before rotation (Dehghani et al. 2023,
        arXiv:2302.05442).
      logit_cap: attention scores become cap * tanh(scores / cap); None for no cap.
      windows: layer i sees the last windows[i % len(windows)] tokens, itself included; 0 for all; None for
        all in every layer. Where not causal, as many on the other side.
      scale: of the products of queries and keys; None for head_features**-0.5.
      cross: each block attends to a memory between self-attention and the MLP.
      dropout: of every residual branch; see nn.dropout for how its rate is rounded.
      remat: keep only each block's input for the backward pass and compute the rest again.
      dtype: what products are computed in; parameters, norms and the softmax are float32.
      init_std: of the kernels; query_std, out_std (attention's output) and down_std (the MLP's) where they
        differ: None takes init_std for queries, and init_std / sqrt(2 layers) for the other two, so that
        depth does not scale the stack's output (GPT-2). relative_std: of `relative`'s table.
    """

    layers: int
    heads: int
    width: int
    hidden: int
    kv_heads: int | None = None
    head_features: int | None = None
    activation: Activation = "gelu_tanh"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_epsilon: float = 1e-5
    bias: bool = False
    prenorm: bool = True
    final_norm: bool = True
    causal: bool = True
    rope: bool = False
    rope_base: float = 10_000.0
    relative: RelativeBias | None = None
    qk_norm: bool = False
    logit_cap: float | None = None
    windows: tuple[int, ...] | None = None
    scale: float | None = None
    cross: bool = False
    dropout: float = 0.0
    implementation: Implementation = "auto"
    remat: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    init_std: float = 0.02
    query_std: float | None = None
    out_std: float | None = None
    down_std: float | None = None
    relative_std: float = 0.02

    def __post_init__(self):
        if self.windows is not None:
            object.__setattr__(self, "windows", tuple(self.windows))
        if self.head_features is None and self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}", "change either")
        if self.heads % (self.kv_heads or self.heads):
            raise ConfigError(
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}", "change either"
            )
        if self.rope and self.features % 2:
            raise ConfigError(
                f"rotary positions turn pairs, and a head has {self.features} features", "make it even"
            )
        if self.windows is not None and (not self.windows or min(self.windows) < 0):
            raise ConfigError(
                f"windows {self.windows}", "give a number of tokens per layer, 0 for all, or None"
            )

    @property
    def features(self) -> int:
        """Of one head."""
        return self.head_features or self.width // self.heads

    @property
    def residual_std(self) -> float:
        """Of what writes into the residual stream, where nothing else is asked for."""
        return self.init_std * (2 * self.layers) ** -0.5

    def attention(self, layer: int, *, cross: bool = False) -> Form:
        """The form of this layer's attention."""
        return Form(
            width=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            features=self.features,
            bias=self.bias,
            causal=self.causal and not cross,
            rope_base=self.rope_base if self.rope and not cross else None,
            qk_norm=self.qk_norm,
            logit_cap=self.logit_cap,
            window=self.windows[layer % len(self.windows)] if self.windows and not cross else 0,
            scale=self.scale,
            epsilon=self.norm_epsilon,
            dropout=self.dropout,
            implementation=self.implementation,
            std=self.init_std,
            query_std=self.init_std if self.query_std is None else self.query_std,
            out_std=self.residual_std if self.out_std is None else self.out_std,
            dtype=self.dtype,
        )


@struct.dataclass
class Cache:
    """One block's: its own keys and values, and the memory's, projected once, where it attends to one."""

    own: KV
    memory: KV | None = None


class MLP(nn.Module):
    """Two layers; three where the activation is gated (Shazeer 2020, arXiv:2002.05202)."""

    stack: Stack

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], keys: Keys | None = None) -> Float[Array, "B T W"]:
        s = self.stack
        names = ("gate", "up") if s.activation in GATED else ("up",)
        project = Linears(
            dict.fromkeys(names, s.hidden), bias=s.bias, std=s.init_std, dtype=s.dtype, name="project"
        )
        *gate, h = project(x)
        h = GATED[s.activation](gate[0]) * h if gate else PLAIN[s.activation](h)
        h = with_logical_constraint(h, ("batch", "length", "mlp"))
        std = s.residual_std if s.down_std is None else s.down_std
        return dropout(
            Linear(x.shape[-1], bias=s.bias, std=std, dtype=s.dtype, name="down")(h), s.dropout, keys
        )


class Block(nn.Module):
    """Self-attention, attention to a memory where the stack has one, and the MLP, each beside a skip."""

    stack: Stack
    layer: int = 0

    def setup(self):
        s = self.stack
        make = lambda: norm(s.norm, bias=s.bias, epsilon=s.norm_epsilon)
        self.attention_norm, self.attention = make(), Attention(s.attention(self.layer))
        if s.cross:
            self.cross_norm, self.cross = make(), CrossAttention(s.attention(self.layer, cross=True))
        self.mlp_norm, self.mlp = make(), MLP(s)

    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        cache: Cache | None = None,
        keys: Keys | None = None,
        segments: Int[Array, "B T"] | None = None,
        memory: Float[Array, "B S M"] | None = None,
        memory_mask: Array | None = None,
        bias: Bias | None = None,
    ) -> tuple[Float[Array, "B T W"], Cache | None]:
        own = None if cache is None else cache.own
        remembered = None if cache is None else cache.memory

        def attend(y: Array) -> Array:
            nonlocal own
            y, own = self.attention(y, positions, own, fold(keys, 0), segments=segments, bias=bias)
            return y

        def recall(y: Array) -> Array:
            nonlocal remembered
            if memory is not None:
                remembered = self.cross.remember(memory)
            assert remembered is not None  # Transformer sees to it
            return self.cross(y, remembered, fold(keys, 2), mask=memory_mask)

        x = self._branch(x, self.attention_norm, attend)
        if self.stack.cross:
            x = self._branch(x, self.cross_norm, recall)
        x = self._branch(x, self.mlp_norm, lambda y: self.mlp(y, fold(keys, 1)))
        return x, None if own is None else Cache(own, remembered)

    def _branch(self, x: Array, norm: nn.Module, branch: Any) -> Array:
        if self.stack.prenorm:
            return with_logical_constraint(x + branch(norm(x)), EMBED)
        return with_logical_constraint(norm(x + branch(x)), EMBED)

    def remember(self, memory: Float[Array, "B S M"]) -> KV:
        """The memory's keys and values, as this block sees them."""
        return self.cross.remember(memory)


class Transformer(nn.Module):
    """Blocks one after another, then a norm where they are pre-norm.

    Parameters: block_i/{attention_norm, attention/{project/{query,key,value}, out, query_norm, key_norm},
    cross_norm, cross/{project/query, memory/{key,value}, out}, mlp_norm, mlp/{project/{gate,up}, down}},
    norm, relative/embedding: of these, what the stack's form has.
    """

    stack: Stack

    def setup(self):
        s = self.stack
        block: Any = nn.remat(Block) if s.remat else Block
        for i in range(s.layers):
            setattr(self, f"block_{i}", block(s, i))
        if s.relative is not None:
            self.relative = Relative(s.relative, s.heads, s.causal, s.relative_std)
        if s.prenorm and s.final_norm:
            self.norm = norm(s.norm, bias=s.bias, epsilon=s.norm_epsilon)

    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        caches: tuple[Cache, ...] | None = None,
        keys: Keys | None = None,
        *,
        segments: Int[Array, "B T"] | None = None,
        memory: Float[Array, "B S M"] | None = None,
        memory_mask: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Float[Array, "B T W"], tuple[Cache, ...] | None]:
        """Args:
          positions: for rotary positions. With caches also the slots of these tokens: consecutive in a row.
          caches: one per block, from `begin`; they come back written.
          keys: of dropout; None for none.
          segments: self-attention is within equal segments, and nothing sees segment 0 (padding).
          memory, memory_mask (B x S, 0 is padding): what cross-attention sees. With caches that have begun
            with the memory, only its mask is needed.
          mask: B x T, 0 is padding, which is not seen: in short for a segment of ones.

        Raises:
          ValueError: segments or a mask beside caches (their rows are whole sequences), or cross-attention
            without a memory.
        """
        s = self.stack
        if mask is not None:
            ones = (mask > 0).astype(jnp.int32)
            segments = ones if segments is None else segments * ones
        if caches is not None and segments is not None:
            raise ValueError("rows of a cache are whole sequences: they have no segments and no mask")
        if s.cross and memory is None and (caches is None or caches[0].memory is None):
            raise ValueError("a stack with cross-attention needs a memory, or caches that began with one")
        bias = None if s.relative is None else self.relative()
        written = []
        for i in range(s.layers):
            cache, block = None if caches is None else caches[i], getattr(self, f"block_{i}")
            x, cache = block(x, positions, cache, fold(keys, i), segments, memory, memory_mask, bias)
            written.append(cache)
        if s.prenorm and s.final_norm:
            x = self.norm(x)
        return x, None if caches is None else tuple(written)

    def begin(self, num: int, length: int, memory: Float[Array, "B S M"] | None = None) -> tuple[Cache, ...]:
        """Caches for `num` rows of `length` tokens, the memory's keys and values in them (a bound method)."""
        caches = self.cache(self.stack, num, length)
        if memory is None:
            return caches
        blocks = [getattr(self, f"block_{i}") for i in range(self.stack.layers)]
        return tuple(
            Cache(cache.own, block.remember(memory)) for cache, block in zip(caches, blocks, strict=True)
        )

    @staticmethod
    def cache(stack: Stack, num: int, length: int) -> tuple[Cache, ...]:
        """Empty caches for `num` rows of `length` tokens, without a memory."""
        heads = stack.kv_heads or stack.heads
        return tuple(
            Cache(KV.empty(num, heads, length, stack.features, stack.dtype)) for _ in range(stack.layers)
        )

    @staticmethod
    def cache_bytes(stack: Stack, num: int, length: int, memory: int = 0) -> int:
        """The bytes of the caches of `num` rows of `length` tokens that attend to `memory` tokens: keys and
        values of every layer's kv_heads, in the stack's dtype."""
        slots = length + (memory if stack.cross else 0)
        heads = stack.kv_heads or stack.heads
        return 2 * stack.layers * num * heads * slots * stack.features * jnp.dtype(stack.dtype).itemsize
