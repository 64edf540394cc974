"""Define transformer stacks, pre- and post-norm, with and without cross-attention (GPT, BERT, T5)."""

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
from genjax.nn.attention import KV, Implementation
from genjax.nn.attention_layers import Attention, CrossAttention, Form
from genjax.nn.dropout import dropout, fold
from genjax.nn.linear import Linear, Linears
from genjax.nn.norms import norm
from genjax.nn.relative import Bias, Relative, RelativeBias

EMBED = ("batch", "length", "embed")
"""Logical axes of the residual stream."""


@dataclasses.dataclass(frozen=True)
class Stack:
    """Describe a stack of transformer blocks.

    Attributes:
      layers, heads: numbers of blocks and of query heads.
      width: width of the residual stream.
      hidden: width of the MLP's inner layer.
      kv_heads: number of key and value heads, each shared by heads / kv_heads query heads; None for `heads`.
      head_features: features of one head; None for width / heads (T5's d_kv differs from it).
      activation: activation of the MLP; relu2 is the squared ReLU (So et al. 2021, arXiv:2109.08668).
      norm, norm_epsilon: kind of the norms and the epsilon in their square root.
      bias: learn biases in projections and layer norms.
      prenorm: x + branch(norm(x)) (Xiong et al. 2020, arXiv:2002.04745). False: norm(x + branch(x)), as in
        the original transformer and BERT; the stack then ends with its last block's norm.
      final_norm: end a pre-norm stack with a norm.
      causal: a token sees only itself and the tokens before it. Always True with a cache.
      rope, rope_base: apply rotary positions with this base.
      relative: T5's relative position biases, whose table all layers share; None for none. Without rope or
        relative, the input must carry the positions.
      qk_norm: apply RMSNorm to each head's queries and keys, before the rotation (Dehghani et al. 2023,
        arXiv:2302.05442).
      logit_cap: attention scores become cap * tanh(scores / cap); None for no cap.
      windows: layer i sees the last windows[i % len(windows)] tokens, its own included, and without
        `causal` as many after it; 0 for all tokens. None for all tokens in every layer.
      scale: factor on the products of queries and keys; None for head_features**-0.5.
      cross: attend to a memory between self-attention and the MLP of each block.
      dropout: dropout rate of each residual branch; nn.dropout describes its rounding.
      implementation: see nn.attention.attend.
      remat: store only each block's input for the backward pass and recompute the rest.
      dtype: dtype of the products; parameters, norms and the softmax are float32.
      init_std: initial standard deviation of the kernels.
      query_std: initial standard deviation of the query kernels; None for init_std.
      out_std, down_std: initial standard deviations of the output kernels of attention and of the MLP; None
        for init_std / sqrt(2 layers), so that depth does not scale the stack's output (GPT-2).
      relative_std: initial standard deviation of the table of `relative`.
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
        if self.hidden < 1:
            raise ConfigError(f"the MLP has {self.hidden} hidden features", "raise model.mlp or model.width")
        if self.windows is not None:
            # A config file gives a list; Linen needs hashable fields.
            object.__setattr__(self, "windows", tuple(self.windows))
        if self.head_features is None and self.width % self.heads:
            raise ConfigError(
                f"width {self.width} is not a multiple of heads {self.heads}", "change one of them"
            )
        if self.heads % (self.kv_heads or self.heads):
            raise ConfigError(
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}", "change one of them"
            )
        if self.rope and self.features % 2:
            raise ConfigError(
                f"rotary positions need an even number of features per head, not {self.features}",
                "change width, heads or head_features",
            )
        if self.windows is not None and (not self.windows or min(self.windows) < 0):
            raise ConfigError(
                f"windows {self.windows} must be a non-empty tuple of numbers >= 0",
                "give a number of tokens per layer, 0 for all, or None",
            )

    @property
    def features(self) -> int:
        """Return the number of features of one head."""
        return self.head_features or self.width // self.heads

    @property
    def residual_std(self) -> float:
        """Return the default standard deviation of kernels that write to the residual stream."""
        # 2 * layers branches are summed: attention and the MLP of each block.
        return self.init_std * (2 * self.layers) ** -0.5

    def attention(self, layer: int, *, cross: bool = False) -> Form:
        """Return the form of this layer's self-attention, or of its cross-attention.

        Cross-attention has no causal mask, no rotary positions and no window: a memory's slots are not
        positions in the sequence.
        """
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
    """Hold the keys and values of one block.

    Attributes:
      own: keys and values of self-attention.
      memory: keys and values of the memory, projected once; None without cross-attention.
    """

    own: KV
    memory: KV | None = None


class MLP(nn.Module):
    """Apply a two-layer MLP, with a second input projection if the activation is gated.

    Gated activations: Shazeer 2020, arXiv:2002.05202.
    """

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
    """Apply self-attention, cross-attention if the stack has it, and the MLP, each as a residual branch."""

    stack: Stack
    layer: int = 0

    def setup(self):
        s = self.stack
        make = lambda: norm(s.norm, bias=s.bias, epsilon=s.norm_epsilon)
        self.attention_norm = make()
        self.attention = Attention(s.attention(self.layer))
        if s.cross:
            self.cross_norm = make()
            self.cross = CrossAttention(s.attention(self.layer, cross=True))
        self.mlp_norm = make()
        self.mlp = MLP(s)

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
        """Return the block's output and its cache; arguments as in Transformer, with this block's cache."""
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
            assert remembered is not None  # Transformer raises before
            return self.cross(y, remembered, fold(keys, 2), mask=memory_mask)

        x = self._branch(x, self.attention_norm, attend)
        if self.stack.cross:
            x = self._branch(x, self.cross_norm, recall)
        x = self._branch(x, self.mlp_norm, lambda y: self.mlp(y, fold(keys, 1)))
        return x, None if own is None else Cache(own, remembered)

    def _branch(self, x: Array, norm: nn.Module, branch: Any) -> Array:
        """Add a residual branch to the stream, with the norm before the branch or after the sum."""
        if self.stack.prenorm:
            return with_logical_constraint(x + branch(norm(x)), EMBED)
        return with_logical_constraint(norm(x + branch(x)), EMBED)

    def remember(self, memory: Float[Array, "B S M"]) -> KV:
        """Project the memory to the keys and values of this block's cross-attention."""
        return self.cross.remember(memory)


class Transformer(nn.Module):
    """Apply the blocks one after another, then a final norm if they are pre-norm.

    Parameters, those that the stack's options need: block_i/{attention_norm, attention/{project/{query,key,
    value}, out, query_norm, key_norm}, cross_norm, cross/{project/query, memory/{key,value}, out, query_norm,
    key_norm}, mlp_norm, mlp/{project/{gate,up}, down}}, norm, relative/embedding.
    """

    stack: Stack

    def setup(self):
        s = self.stack
        block: Any = nn.remat(Block) if s.remat else Block
        for i in range(s.layers):
            # Attributes, not a list: they name the submodules block_0, block_1, ...
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
        """Return the transformed sequence and the caches with the new keys and values written.

        Args:
          positions: for rotary positions. With caches also the slots of these tokens, consecutive in a row.
          caches: one per block, from `begin`; None to attend within x only.
          keys: PRNG keys of dropout; None for no dropout.
          segments: a token sees only tokens of its own segment, and none of segment 0 (padding).
          memory: sequence that cross-attention reads. Not needed with caches that hold the memory.
          memory_mask: B x S; 0 marks the memory's padding.
          mask: B x T; 0 marks padding. The same as a segment of ones.

        Raises:
          ValueError: if segments or a mask are given with caches, or if the stack has cross-attention and
            neither a memory nor caches that hold one are given.
        """
        s = self.stack
        if mask is not None:
            ones = (mask > 0).astype(jnp.int32)
            segments = ones if segments is None else segments * ones
        if caches is not None and segments is not None:
            raise ValueError("rows of a cache are whole sequences: segments and mask must be None")
        if s.cross and memory is None and (caches is None or caches[0].memory is None):
            raise ValueError("a stack with cross-attention needs a memory, or caches that hold one")
        bias = None if s.relative is None else self.relative()
        written = []
        for i in range(s.layers):
            cache = None if caches is None else caches[i]
            block = getattr(self, f"block_{i}")
            x, cache = block(x, positions, cache, fold(keys, i), segments, memory, memory_mask, bias)
            written.append(cache)
        if s.prenorm and s.final_norm:
            x = self.norm(x)
        return x, None if caches is None else tuple(written)

    def begin(self, num: int, length: int, memory: Float[Array, "B S M"] | None = None) -> tuple[Cache, ...]:
        """Return caches for `num` rows of `length` tokens that hold the memory's keys and values.

        Call it through `apply(..., method="begin")`: it reads parameters.
        """
        caches = self.cache(self.stack, num, length)
        if memory is None:
            return caches
        blocks = [getattr(self, f"block_{i}") for i in range(self.stack.layers)]
        return tuple(
            Cache(cache.own, block.remember(memory)) for cache, block in zip(caches, blocks, strict=True)
        )

    @staticmethod
    def cache(stack: Stack, num: int, length: int) -> tuple[Cache, ...]:
        """Return zero caches for `num` rows of `length` tokens, without a memory."""
        heads = stack.kv_heads or stack.heads
        return tuple(
            Cache(KV.empty(num, heads, length, stack.features, stack.dtype)) for _ in range(stack.layers)
        )

    @staticmethod
    def cache_bytes(stack: Stack, num: int, length: int, memory: int = 0) -> int:
        """Compute the bytes of the caches of `num` rows of `length` tokens.

        Args:
          memory: number of the memory's tokens; counted only if the stack has cross-attention.
        """
        # Keys and values (2) of every layer's kv_heads, in the stack's dtype.
        slots = length + (memory if stack.cross else 0)
        heads = stack.kv_heads or stack.heads
        return 2 * stack.layers * num * heads * slots * stack.features * jnp.dtype(stack.dtype).itemsize
