"""GPT: a decoder-only transformer over the tokens of text, pixels of an image or frames of a piano roll.

The default is GPT-2 (Radford et al. 2019); fields of the config choose modern variants (RMSNorm, rotary
positions, gated or squared activations, grouped queries, normalised queries and keys, caps, sliding windows).
Images are drawn pixel by pixel in raster order after a start token that carries the label (Chen et al. 2020,
Image GPT). In a row of several documents (`segment`) each document is read as if it stood alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.config import Layers, Multiple, Natural, NotNegative, Positive, Range, Rate, Share, Width, check
from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.losses import per_row
from genjax.nn.activations import Activation
from genjax.nn.attention import Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup
from genjax.nn.sequence_embedding import embed, unembed
from genjax.nn.transformer import Cache, Stack, Transformer
from genjax.sampling.rows import sampler
from genjax.views.frames import View, view
from genjax.views.sequences import dropped, positions


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a GPT.

    Attributes:
      layers, heads, width: number of layers, attention heads per layer, features per token.
      kv_heads: heads of keys and values (grouped queries); None for as many as heads.
      mlp: inner width of the MLP as a multiple of `width`; a gated MLP at 8/3 has the parameters of a plain
        one at 4.
      activation: of the MLP.
      norm, bias, norm_epsilon, qk_norm, logit_cap, windows, rope_base: see nn.transformer.Stack.
      final_logit_cap: logits become cap * tanh(logits / cap); None for no cap.
      position: "learned" (for images the sum of a row's and a column's embedding), "rope" (rotary; samples of
        text can then be longer than the training windows), or "both".
      tied: the output projection is the token embedding's transpose.
      init_std: initial standard deviation of embeddings and kernels; divided by sqrt(2 layers) for kernels
        that write into the residual stream.
      mup_base: width at which the maximal-update parametrisation (Yang et al. 2022, arXiv:2203.03466, table
        8) equals the standard one; None for the standard one. The best learning rate at that width is then
        the best at every width: the initial variances of the stack's kernels, Adam's learning rates for them
        and the logits scale as 1 / width, and products of queries and keys as 1 / head features.
      mup_heads: number of heads of the model of width `mup_base`; None for as many as this one.
      condition_dropout: fraction of the training rows that begin with the start token without a condition.
        Images lose their label, as guidance needs; text is read from its first token, as sampling without a
        prompt needs.
      dropout: of the embeddings and every residual branch.
      dtype: of products; parameters are float32.
      remat, implementation: see nn.transformer.Stack and nn.attention.attend.
    """

    layers: Layers = 4
    heads: Width = 4
    width: Width = 128
    kv_heads: Width | None = None
    mlp: Multiple = 4.0
    activation: Activation = "gelu_tanh"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_epsilon: Positive = 1e-5
    position: Literal["learned", "rope", "both"] = "learned"
    rope_base: Annotated[float, Range(above=1, most=1e12)] = 10_000.0
    qk_norm: bool = False
    logit_cap: Positive | None = None
    final_logit_cap: Positive | None = None
    windows: tuple[Natural, ...] | None = None
    bias: bool = False
    tied: bool = False
    init_std: NotNegative = 0.02
    mup_base: Width | None = None
    mup_heads: Width | None = None
    dropout: Rate = 0.0
    condition_dropout: Share = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    implementation: Implementation = "auto"

    def __post_init__(self):
        check(self)
        if self.windows is not None:
            object.__setattr__(self, "windows", tuple(self.windows))

    def stack(self) -> Stack:
        """Return the configuration of the transformer."""
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
        """Return the width relative to the model on which the hyperparameters were tuned; 1 without muP."""
        return self.width / self.mup_base if self.mup_base else 1.0

    def _scale(self) -> float | None:
        if self.mup_base is None:
            return None
        features = self.width / self.heads
        base = self.mup_base / (self.mup_heads or self.heads)
        return base**0.5 / features


class GPT(nn.Module):
    """Map tokens or frames to the logits of the next one."""

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
        c = self.config
        small = nn.initializers.normal(c.init_std)
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
        """Return learned embeddings of the positions; those beyond the last trained one share its row."""
        s = self.sequence
        width = self.config.width
        positions = jnp.minimum(positions, s.length - 1)
        if s.text or len(s.shape) < 2:
            return lookup(self.param("position_embedding", init, (s.length, width)), positions)
        # The position of an input is the pixel that comes next: its row and its column (and channel).
        columns = s.length // s.shape[0]
        rows = self.param("row_embedding", init, (s.shape[0], width))
        return lookup(rows, positions // columns) + lookup(
            self.param("column_embedding", init, (columns, width)), positions % columns
        )


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build a GPT for text, quantised images or piano rolls, class-conditional if there are labels.

    Player "model"; exact likelihood.

    Raises:
      ConfigError: the data has no discrete target, or `heads` does not divide `width`.
    """
    del stages
    sequence = view(spec)
    m = _GPT(config, spec, sequence, GPT(config, sequence), config.stack())
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective)},
        sample=m.sampler(),
        likelihood=m.likelihood,
        decoder=m.decoder,
        learning_rate_multipliers=m.learning_rate_multipliers if config.mup_base else None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _GPT:
    """Implement the contract."""

    config: Config
    spec: Spec
    sequence: View
    network: GPT
    stack: Stack

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        inputs = self.sequence.encode(self.spec.example(1))[0]
        params = self.network.init(key, inputs, positions(inputs))["params"]
        return Variables(params={"model": params}, frozen=frozen)

    def apply(self, variables: Variables, *args: Any) -> Any:
        return self.network.apply({"params": variables.params["model"]}, *args)

    def logits(
        self,
        variables: Variables,
        tokens: Int[Array, "B T *K"],
        documents: tuple[jax.Array, jax.Array] | None = None,
        keys: Keys | None = None,
    ) -> Float[Array, "B T V"]:
        """Compute the logits of the token after each one; `documents` holds (segments, positions)."""
        segments, places = documents or (None, positions(tokens))
        return self.apply(variables, tokens, places, None, keys, segments)[0]

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        training = step is not None
        drop = dropped(keys, c.condition_dropout) if training else None
        inputs, targets, mask = self.sequence.encode(batch, drop)
        noise = fold(keys, 1) if training and c.dropout else None
        out = self.logits(variables, inputs, self.sequence.segments(batch, drop), noise)
        loss = Mean.of(self.sequence.nats(out, targets), mask)
        return loss, Aux(variables.state, self.sequence.metrics(out, targets, mask))

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, dict]:
        """Compute the nats of every row and its count of predicted tokens or frames.

        Args:
          label: given its label; False for the probability without one.
        """
        inputs, targets, mask = self.sequence.encode(batch)
        if not label:
            inputs = self.sequence.unconditional(inputs)
        out = self.logits(variables, inputs, self.sequence.segments(batch))
        return per_row(self.sequence.nats(out, targets), mask), {}

    def learning_rate_multipliers(self, player: str, params: Any) -> Any:
        """Return muP's factors on Adam's learning rate: 1 / width for the stack's kernels."""
        del player

        def one(path: Any, _: Any) -> float:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return 1 / self.config.wider if name.startswith("stack/") and name.endswith("/kernel") else 1.0

        return jax.tree_util.tree_map_with_path(one, params)

    # --- decoding ----------------------------------------------------------------------------------

    @functools.cached_property
    def decoder(self) -> Decoder:
        return Decoder(self.start, self.advance, self.commit)

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        cache = Transformer.cache(self.stack, num, length)
        return {"kv": cache, "length": jnp.zeros((num,), jnp.int32)}

    def advance(self, variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        places = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None, :]
        out, kv = self.apply(variables, tokens, places, cache["kv"])
        return out, {"kv": kv, "length": cache["length"]}

    def commit(self, trail: dict, count: jax.Array) -> dict:
        # Slots beyond a row's length are never read, and are overwritten by the next tokens.
        return {"kv": trail["kv"], "length": trail["length"] + count}

    def sampler(self) -> Callable[..., Batch]:
        """Return the sampler of the decoder; it refuses lengths beyond the learned positions."""
        draw = sampler(self.decoder, self.sequence)

        @functools.wraps(draw)  # keeps the options of `draw` in the signature
        def sample(variables: Variables, keys: Keys, prompt: Batch, **options: Any) -> Batch:
            length = options.get("length")
            if self.config.position != "rope" and length is not None and length > self.sequence.length + 1:
                raise ConfigError(
                    f"length {length} is beyond the {self.sequence.length} learned positions",
                    'train with model.position="rope", or with a longer data.length',
                )
            return draw(variables, keys, prompt, **options)

        return sample
