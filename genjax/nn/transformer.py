"""Pre-norm transformer blocks: what GPT, BERT and T5 are made of."""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.nn.activations import GATED, PLAIN, Activation
from genjax.nn.attention import KV, Attention, Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.linear import Linear, Linears
from genjax.nn.norms import norm


@dataclasses.dataclass(frozen=True)
class Stack:
    """The form of a stack of blocks.

    Attributes:
      kv_heads: heads of keys and values, each shared by heads / kv_heads queries; None for as many.
      hidden: width of the MLP's inner layer.
      activation: of the MLP; relu2 is the squared ReLU (So et al. 2021, arXiv:2109.08668).
      bias: whether projections and layer norms have biases.
      rope: rotary positions (functional of the positions given); else positions are the input's affair.
      dropout: of every residual branch; see nn.dropout for how its rate is rounded.
      remat: keep only each block's input for the backward pass and compute the rest again.
      dtype: what products are computed in; parameters, norms and the softmax are float32.
    """

    layers: int
    heads: int
    width: int
    hidden: int
    kv_heads: int | None = None
    activation: Activation = "gelu_tanh"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    bias: bool = False
    causal: bool = True
    rope: bool = False
    dropout: float = 0.0
    implementation: Implementation = "auto"
    remat: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    init_std: float = 0.02

    def __post_init__(self):
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of heads {self.heads}", "change either")
        if self.heads % (self.kv_heads or self.heads):
            raise ConfigError(
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}", "change either"
            )

    @property
    def out_std(self) -> float:
        """Residual branches start small, so that depth does not scale the stack's output (GPT-2)."""
        return self.init_std * (2 * self.layers) ** -0.5


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
        return dropout(
            Linear(x.shape[-1], bias=s.bias, std=s.out_std, dtype=s.dtype, name="down")(h), s.dropout, keys
        )


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) (pre-norm: Xiong et al. 2020, arXiv:2002.04745)."""

    stack: Stack

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        cache: KV | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T W"], KV | None]:
        s = self.stack
        attention = Attention(
            heads=s.heads,
            kv_heads=s.kv_heads or s.heads,
            bias=s.bias,
            causal=s.causal,
            rope=s.rope,
            dropout=s.dropout,
            implementation=s.implementation,
            init_std=s.init_std,
            out_std=s.out_std,
            dtype=s.dtype,
            name="attention",
        )
        y = norm(s.norm, bias=s.bias, name="attention_norm")(x)
        y, cache = attention(y, positions, cache, fold(keys, 0))
        x = with_logical_constraint(x + y, ("batch", "length", "embed"))
        y = norm(s.norm, bias=s.bias, name="mlp_norm")(x)
        y = MLP(s, name="mlp")(y, fold(keys, 1))
        return with_logical_constraint(x + y, ("batch", "length", "embed")), cache


class Transformer(nn.Module):
    """Blocks one after another, then a norm. With caches, one KV per block, they come back written."""

    stack: Stack

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        positions: Int[Array, "B T"],
        caches: tuple[KV, ...] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T W"], tuple[KV, ...] | None]:
        s = self.stack
        block = nn.remat(Block) if s.remat else Block
        written = []
        for i in range(s.layers):
            cache = None if caches is None else caches[i]
            x, cache = block(s, name=f"block_{i}")(x, positions, cache, fold(keys, i))
            written.append(cache)
        x = norm(s.norm, bias=s.bias, name="norm")(x)
        return x, None if caches is None else tuple(written)

    @staticmethod
    def cache(stack: Stack, num: int, length: int) -> tuple[KV, ...]:
        """Empty caches for `num` rows of `length` tokens."""
        heads, features = stack.kv_heads or stack.heads, stack.width // stack.heads
        return tuple(KV.empty(num, heads, length, features, stack.dtype) for _ in range(stack.layers))
