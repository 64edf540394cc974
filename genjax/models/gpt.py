"""GPT: a decoder-only transformer over the tokens of text or the pixels of an image.

Radford et al. 2019 (GPT-2) is the default form; the modern form (RMSNorm, rotary positions, gated or squared
activations, grouped queries) is a matter of fields. Images are drawn pixel by pixel in raster order after a
start token that carries the label (Chen et al. 2020, Image GPT).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Play, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.losses import per_row, token_hits, token_nats
from genjax.functional.sequences import Sequence
from genjax.nn.activations import Activation
from genjax.nn.attention import Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup
from genjax.nn.linear import Linear, linear
from genjax.nn.transformer import Cache, Stack, Transformer
from genjax.sampling.autoregressive import sampler


@dataclasses.dataclass(frozen=True)
class Config:
    """A GPT.

    Attributes:
      layers, heads, width: of the stack; kv_heads None for as many as heads.
      mlp: the MLP's inner width over `width`.
      position: "learned" (for images a row's and a column's embedding, summed), "rope" (rotary, which
        text can be longer than the training windows with), or "both".
      tied: the output projection is the token embedding's transpose.
      condition_dropout: share of the training rows that begin with the start token without a condition:
        images lose their label, which guidance needs; text is read from its first token, which a draw
        without a prompt needs.
      dropout: of the embeddings and every residual branch.
      dtype: what products are computed in; parameters are float32.
      remat, implementation: see nn.transformer.Stack and nn.attention.attend.
    """

    layers: int = 4
    heads: int = 4
    width: int = 128
    kv_heads: int | None = None
    mlp: float = 4.0
    activation: Activation = "gelu_tanh"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    position: Literal["learned", "rope", "both"] = "learned"
    bias: bool = False
    tied: bool = False
    dropout: float = 0.0
    condition_dropout: float = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    implementation: Implementation = "auto"

    def stack(self) -> Stack:
        """The transformer's form."""
        return Stack(
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            hidden=round(self.mlp * self.width),
            kv_heads=self.kv_heads,
            activation=self.activation,
            norm=self.norm,
            bias=self.bias,
            rope=self.position != "learned",
            dropout=self.dropout,
            implementation=self.implementation,
            remat=self.remat,
            dtype=self.dtype,
        )


class GPT(nn.Module):
    """Tokens -> logits over the next one."""

    config: Config
    sequence: Sequence

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        caches: tuple[Cache, ...] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T V"], tuple[Cache, ...] | None]:
        c, small = self.config, nn.initializers.normal(0.02)
        table = self.param("token_embedding", small, (self.sequence.vocabulary, c.width))
        x = lookup(table, tokens)
        if c.position != "rope":
            x = x + self._places(positions, small)
        x = dropout(x.astype(c.dtype), c.dropout, fold(keys, 0))
        x, caches = Transformer(c.stack(), name="stack")(x, positions, caches, fold(keys, 1))
        levels = self.sequence.levels
        if c.tied:
            logits = linear(x, table[:levels].T.astype(c.dtype))
        else:
            logits = Linear(levels, bias=False, std=0.02, dtype=c.dtype, name="head")(x)
        logits = logits.astype(jnp.float32)
        return with_logical_constraint(logits, ("batch", "length", "vocab")), caches

    def _places(self, positions: Int[Array, "B T"], init: nn.initializers.Initializer) -> jax.Array:
        """Learned embeddings of the positions; one past the last trained one counts as the last."""
        s, width = self.sequence, self.config.width
        positions = jnp.minimum(positions, s.length - 1)
        if s.text or len(s.shape) < 2:
            return lookup(self.param("position_embedding", init, (s.length, width)), positions)
        # The position of an input is the pixel that comes next: its row and its column (and channel).
        columns = s.length // s.shape[0]
        rows = self.param("row_embedding", init, (s.shape[0], width))
        return lookup(rows, positions // columns) + lookup(
            self.param("column_embedding", init, (columns, width)), positions % columns
        )


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """A GPT for text or quantised images. Player "model"; exact likelihood; class-conditional with labels.

    Raises:
      ConfigError: where the data has no discrete element, or the widths do not divide.
    """
    del stages
    sequence = Sequence.of(spec)
    stack = config.stack()
    network = GPT(config, sequence)

    def init(key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        tokens = jnp.zeros((1, sequence.length), jnp.int32)
        params = network.init(key, tokens, _positions(tokens))["params"]
        return Variables(params={"model": params}, frozen=frozen)

    def logits(variables: Variables, tokens: jax.Array, keys: Keys | None = None) -> jax.Array:
        return network.apply({"params": variables.params["model"]}, tokens, _positions(tokens), None, keys)[0]

    def objective(variables, batch, keys, *, step):
        training = step is not None
        drop = None
        if training and config.condition_dropout:
            drop = jax.vmap(lambda key: jax.random.bernoulli(key, config.condition_dropout))(fold(keys, 0))
        inputs, targets, mask = sequence.encode(batch, None if drop is None else drop.astype(jnp.float32))
        out = logits(variables, inputs, fold(keys, 1) if training and config.dropout else None)
        nats = token_nats(out, targets)
        return Mean.of(nats, mask), Aux(
            variables.state, {"accuracy": Mean.of(token_hits(out, targets), mask)}
        )

    def likelihood(
        variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, dict]:
        """Nats of every row given its label (or not: `label=False`), and its count of predicted tokens."""
        inputs, targets, mask = sequence.encode(batch)
        if not label:
            inputs = sequence.unconditional(inputs)
        return per_row(token_nats(logits(variables, inputs), targets), mask), {}

    def start(variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        return {"kv": Transformer.cache(stack, num, length), "length": jnp.zeros((num,), jnp.int32)}

    def advance(variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None, :]
        out, kv = network.apply({"params": variables.params["model"]}, tokens, positions, cache["kv"])
        return out, {"kv": kv, "length": cache["length"]}

    def keep(trail: dict, count: jax.Array) -> dict:
        # Slots beyond a row's length are never seen, and are written anew.
        return {"kv": trail["kv"], "length": trail["length"] + count}

    decoder = Decoder(start, advance, keep)
    draw = sampler(decoder, sequence)

    @functools.wraps(draw)  # its knobs are this one's, and are seen in the signature
    def sample(variables: Variables, keys: Keys, prompt: Batch, **knobs) -> Batch:
        length = knobs.get("length")
        if config.position != "rope" and length is not None and length > sequence.length + 1:
            raise ConfigError(
                f"length {length} is beyond the {sequence.length} learned positions",
                'train with model.position="rope", or with a longer data.length',
            )
        return draw(variables, keys, prompt, **knobs)

    return Model(
        init=init,
        plays={"nll": Play("model", objective)},
        sample=sample,
        likelihood=likelihood,
        decoder=decoder,
    )


def _positions(tokens: Int[Array, "B T"]) -> Int[Array, "B T"]:
    return jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :], tokens.shape)
