"""GPT: a decoder-only transformer over the tokens of text, pixels of an image or frames of a piano roll.

Radford et al. 2019 (GPT-2) is the default form; the modern form (RMSNorm, rotary positions, gated or squared
activations, grouped queries, normalised queries and keys, caps, sliding windows) is a matter of fields.
Images are drawn pixel by pixel in raster order after a start token that carries the label (Chen et al. 2020,
Image GPT). Rows of several documents (`segment`) are read as if each stood alone.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.losses import per_row
from genjax.nn.activations import Activation
from genjax.nn.attention import Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup
from genjax.nn.sequence_embedding import embed, unembed
from genjax.nn.transformer import Cache, Stack, Transformer
from genjax.sampling.autoregressive import sampler
from genjax.views.frames import View, view
from genjax.views.sequences import positions


@dataclasses.dataclass(frozen=True)
class Config:
    """A GPT.

    Attributes:
      layers, heads, width: of the stack; kv_heads None for as many as heads.
      mlp: the MLP's inner width over `width`: gated at 8/3 it has as many parameters as plain at 4.
      norm_epsilon, qk_norm, logit_cap, windows, rope_base: see nn.transformer.Stack.
      final_logit_cap: logits become cap * tanh(logits / cap); None for no cap.
      position: "learned" (for images a row's and a column's embedding, summed), "rope" (rotary, which
        text can be longer than the training windows with), or "both".
      tied: the output projection is the token embedding's transpose.
      init_std: of embeddings and kernels; those that write into the residual stream have it over
        sqrt(2 layers).
      mup_base: the maximal-update parametrisation (Yang et al. 2022, arXiv:2203.03466, table 8): at this
        width the model is the ordinary one, and at every other its best learning rate is that width's: the
        initial variances of the stack's kernels and Adam's learning rates for them go as
        1 / width, so do the logits, and products of queries and keys as 1 / head features.
      mup_heads: how many heads that model of width `mup_base` has; None for as many as this one.
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
    norm_epsilon: float = 1e-5
    position: Literal["learned", "rope", "both"] = "learned"
    rope_base: float = 10_000.0
    qk_norm: bool = False
    logit_cap: float | None = None
    final_logit_cap: float | None = None
    windows: tuple[int, ...] | None = None
    bias: bool = False
    tied: bool = False
    init_std: float = 0.02
    mup_base: int | None = None
    mup_heads: int | None = None
    dropout: float = 0.0
    condition_dropout: float = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    implementation: Implementation = "auto"

    def __post_init__(self):
        if self.windows is not None:
            object.__setattr__(self, "windows", tuple(self.windows))

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
            norm_epsilon=self.norm_epsilon,
            bias=self.bias,
            rope=self.position != "learned",
            rope_base=self.rope_base,
            qk_norm=self.qk_norm,
            logit_cap=self.logit_cap,
            windows=self.windows,
            scale=self._scale(),
            dropout=self.dropout,
            implementation=self.implementation,
            remat=self.remat,
            dtype=self.dtype,
            init_std=self.init_std * self.wider**-0.5,
        )

    @property
    def wider(self) -> float:
        """By how much it is wider than the model whose hyperparameters it has; 1 without muP."""
        return self.width / self.mup_base if self.mup_base else 1.0

    def _scale(self) -> float | None:
        if self.mup_base is None:
            return None
        features, base = self.width / self.heads, self.mup_base / (self.mup_heads or self.heads)
        return base**0.5 / features


class GPT(nn.Module):
    """Tokens or frames -> logits of the next one."""

    config: Config
    sequence: View

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T *K"],
        positions: Int[Array, "B T"],
        caches: tuple[Cache, ...] | None = None,
        keys: Keys | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T V"], tuple[Cache, ...] | None]:
        c, small = self.config, nn.initializers.normal(self.config.init_std)
        x, table = embed(self, self.sequence, tokens, c.width, small)
        if c.position != "rope":
            x = x + self._places(positions, small)
        x = dropout(x.astype(c.dtype), c.dropout, fold(keys, 0))
        stack = Transformer(c.stack(), name="stack")
        x, caches = stack(x, positions, caches, fold(keys, 1), segments=segments)
        if c.wider != 1:
            x = x / c.wider
        logits = unembed(self, self.sequence, x, table if c.tied else None, std=c.init_std, dtype=c.dtype)
        if c.final_logit_cap is not None:
            logits = c.final_logit_cap * jnp.tanh(logits / c.final_logit_cap)
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
    """A GPT for text, quantised images or piano rolls, class-conditional where there are labels.

    Player "model"; exact likelihood.

    Raises:
      ConfigError: where the data has no discrete element, or the widths do not divide.
    """
    del stages
    sequence = view(spec)
    stack = config.stack()
    network = GPT(config, sequence)

    def init(key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        inputs = sequence.encode(spec.example(1))[0]
        params = network.init(key, inputs, positions(inputs))["params"]
        return Variables(params={"model": params}, frozen=frozen)

    def logits(variables: Variables, tokens: jax.Array, documents: Any = None, keys: Any = None) -> jax.Array:
        segments, places = documents or (None, positions(tokens))
        params = {"params": variables.params["model"]}
        return network.apply(params, tokens, places, None, keys, segments)[0]

    def objective(variables, batch, keys, *, step):
        training = step is not None
        drop = None
        if training and config.condition_dropout:
            drop = jax.vmap(lambda key: jax.random.bernoulli(key, config.condition_dropout))(fold(keys, 0))
            drop = drop.astype(jnp.float32)
        inputs, targets, mask = sequence.encode(batch, drop)
        noise = fold(keys, 1) if training and config.dropout else None
        out = logits(variables, inputs, sequence.segments(batch, drop), noise)
        loss = Mean.of(sequence.nats(out, targets), mask)
        return loss, Aux(variables.state, sequence.metrics(out, targets, mask))

    def likelihood(
        variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, dict]:
        """Nats of every row given its label (or not: `label=False`), and its count of predicted tokens or
        frames."""
        inputs, targets, mask = sequence.encode(batch)
        if not label:
            inputs = sequence.unconditional(inputs)
        out = logits(variables, inputs, sequence.segments(batch))
        return per_row(sequence.nats(out, targets), mask), {}

    def learning_rate_multipliers(player: str, params: Any) -> Any:
        """muP's factors on Adam's learning rate: those of the stack's kernels go as 1 / width."""
        del player

        def one(path: Any, _: Any) -> float:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return 1 / config.wider if name.startswith("stack/") and name.endswith("/kernel") else 1.0

        return jax.tree_util.tree_map_with_path(one, params)

    def start(variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        return {"kv": Transformer.cache(stack, num, length), "length": jnp.zeros((num,), jnp.int32)}

    def advance(variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None, :]
        out, kv = network.apply({"params": variables.params["model"]}, tokens, positions, cache["kv"])
        return out, {"kv": kv, "length": cache["length"]}

    def commit(trail: dict, count: jax.Array) -> dict:
        # Slots beyond a row's length are never seen, and are written anew.
        return {"kv": trail["kv"], "length": trail["length"] + count}

    decoder = Decoder(start, advance, commit)
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
        phases={"nll": Phase("model", objective)},
        sample=sample,
        likelihood=likelihood,
        decoder=decoder,
        learning_rate_multipliers=learning_rate_multipliers if config.mup_base else None,
    )
