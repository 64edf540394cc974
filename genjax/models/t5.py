"""T5: an encoder-decoder transformer that reads a text and writes another.

Raffel et al. 2020, arXiv:1910.10683. The default fields are those of T5 1.0: ReLU, a shared embedding, and
logits divided by sqrt(width). T5 1.1 is activation="geglu", tied=False, scale_logits=False. The transformer
of Vaswani et al. 2017 (arXiv:1706.03762) is position="sinusoidal", norm="layernorm", prenorm=False,
scale_embedding=True, scale_logits=False, scaled_attention=True, bias=True.

Paired data is learned as it is (translation, summarisation). In running text, spans are dropped and
predicted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.config import (
    Count,
    Layers,
    Multiple,
    Natural,
    NotNegative,
    Positive,
    Probability,
    Range,
    Rate,
    Share,
    Signed,
    Width,
    check,
)
from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.readout import readout, row_nats
from genjax.nn.activations import Activation
from genjax.nn.attention import Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup, sinusoids
from genjax.nn.relative import RelativeBias
from genjax.nn.transformer import Cache, Stack, Transformer
from genjax.sampling.autoregressive import without
from genjax.sampling.beam import check_options
from genjax.sampling.constraints import Constraint
from genjax.sampling.logits import Truncation
from genjax.sampling.rows import go_on
from genjax.views.columns import LENGTH, TARGET, length_of
from genjax.views.pairs import Pair, Pairs, inside
from genjax.views.sequences import given_tokens, positions


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a T5.

    Attributes:
      layers, decoder_layers: of encoder and decoder; decoder_layers=None for the same number.
      heads, width: attention heads per layer, features per token.
      head_features: of one attention head (T5's d_kv); None for width / heads.
      mlp: inner width of the MLP as a multiple of `width`.
      activation: of the MLP.
      position: "relative" (one table of biases per stack), "rope", or added to the embeddings: "learned" or
        "sinusoidal".
      buckets, max_distance: of relative positions: rows of the table, and the distance from which all share
        one.
      positions: number of learned positions.
      prenorm, bias, norm, epsilon: see nn.transformer.Stack.
      scaled_attention: divide scores by sqrt(head features); T5 scales the initial weights instead.
      tied: the output projection is the transposed embedding.
      scale_logits: divide the last activations by sqrt(width) before a tied projection.
      scale_embedding: multiply embeddings by sqrt(width).
      dropout: of the embeddings, every residual branch and the last activations of both stacks.
      smoothing: label smoothing in training (see functional.readout).
      density, mean_span: of the dropped spans of running text.
      vocabulary: rows of the embedding if more than needed; None for as many as needed.
      dtype: of products; parameters are float32.
      remat, implementation: see nn.transformer.Stack and nn.attention.attend.
    """

    layers: Layers = 4
    decoder_layers: Layers | None = None
    heads: Width = 4
    width: Width = 128
    head_features: Width | None = None
    mlp: Multiple = 4.0
    activation: Activation = "relu"
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    epsilon: Positive = 1e-6
    bias: bool = False
    prenorm: bool = True
    position: Literal["relative", "rope", "learned", "sinusoidal"] = "relative"
    buckets: Annotated[int, Range(least=2, most=2**20)] = 32
    max_distance: Width = 128
    positions: Width = 512
    scaled_attention: bool = False
    tied: bool = True
    scale_logits: bool = True
    scale_embedding: bool = False
    dropout: Rate = 0.1
    smoothing: Rate = 0.0
    density: Annotated[float, Range(above=0, below=1)] = 0.15
    mean_span: Annotated[float, Range(least=1, most=2**20)] = 3.0
    vocabulary: Count | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    implementation: Implementation = "auto"

    def __post_init__(self):
        check(self)

    def check_length(self, length: int, what: str) -> None:
        """Raise ConfigError if `length` tokens are more than the learned positions."""
        if self.position == "learned" and length > self.positions:
            raise ConfigError(
                f"{what} has {length} tokens, beyond the {self.positions} learned positions",
                "raise model.positions, or use relative ones or rope",
            )

    def stack(self, *, decoder: bool) -> Stack:
        """Return the form of the encoder or of the decoder."""
        features = self.head_features or self.width // self.heads
        inner = self.heads * features
        hidden = round(self.mlp * self.width)
        layers = self.layers
        if decoder and self.decoder_layers is not None:
            layers = self.decoder_layers
        std = self.width**-0.5
        return Stack(
            layers=layers,
            heads=self.heads,
            width=self.width,
            hidden=hidden,
            head_features=self.head_features,
            activation=self.activation,
            norm=self.norm,
            norm_epsilon=self.epsilon,
            bias=self.bias,
            prenorm=self.prenorm,
            causal=decoder,
            cross=decoder,
            rope=self.position == "rope",
            relative=RelativeBias(self.buckets, self.max_distance) if self.position == "relative" else None,
            scale=None if self.scaled_attention else 1.0,
            dropout=self.dropout,
            implementation=self.implementation,
            remat=self.remat,
            dtype=self.dtype,
            init_std=std,
            query_std=std if self.scaled_attention else std * features**-0.5,
            out_std=inner**-0.5,
            down_std=hidden**-0.5,
            relative_std=std,
        )


class T5(nn.Module):
    """Encode sources as a memory; map the target so far and the memory to activations for the next token."""

    config: Config
    vocabulary: int

    def setup(self):
        c = self.config
        std = c.width**-0.5 if c.tied and not c.scale_logits else 1.0
        normal = nn.initializers.normal
        self.token_embedding = self.param("token_embedding", normal(std), (self.vocabulary, c.width))
        if not c.tied:
            shape = (self.vocabulary, c.width)
            self.output_embedding = self.param("output_embedding", normal(c.width**-0.5), shape)
        if c.position == "learned":
            places = (c.positions, c.width)
            self.source_positions = self.param("source_position_embedding", normal(std), places)
            self.target_positions = self.param("target_position_embedding", normal(std), places)
        self.encoder = Transformer(c.stack(decoder=False))
        self.decoder = Transformer(c.stack(decoder=True))

    def __call__(
        self, pair: Pair, inputs: Int[Array, "B T"], keys: Keys | None = None
    ) -> Float[Array, "B T W"]:
        """Compute the activations from which the targets are predicted, given the inputs of the decoder."""
        memory = self.encode(pair.source, pair.source_mask, fold(keys, 0))
        x, _ = self.decode(inputs, positions(inputs), memory, pair.source_mask, None, fold(keys, 1))
        return x

    def encode(
        self, source: Int[Array, "B S"], mask: Float[Array, "B S"], keys: Keys | None = None
    ) -> Float[Array, "B S W"]:
        """Encode sources (B x S), of which the mask is 1 on tokens."""
        places = positions(source)
        x = self._embed(source, places, "source", fold(keys, 0))
        x, _ = self.encoder(x, places, None, fold(keys, 1), mask=mask)
        return dropout(x, self.config.dropout, fold(keys, 2))

    def decode(
        self,
        inputs: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        memory: Float[Array, "B S W"] | None,
        memory_mask: Float[Array, "B S"],
        caches: tuple[Cache, ...] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T W"], tuple[Cache, ...] | None]:
        """Return (activations, caches) after the inputs; the memory is None if the caches hold it."""
        c = self.config
        x = self._embed(inputs, positions, "target", fold(keys, 0))
        x, caches = self.decoder(x, positions, caches, fold(keys, 1), memory=memory, memory_mask=memory_mask)
        x = dropout(x, c.dropout, fold(keys, 2))
        return x * (c.width**-0.5 if c.tied and c.scale_logits else 1.0), caches

    def begin(self, source: Int[Array, "B S"], mask: Float[Array, "B S"], length: int) -> tuple[Cache, ...]:
        """Encode the source; return the decoder's caches for `length` tokens."""
        return self.decoder.begin(source.shape[0], length, self.encode(source, mask))

    def write(
        self, inputs: Int[Array, "B T"], positions: Int[Array, "B T"], mask: Float[Array, "B S"], caches
    ) -> tuple[Float[Array, "B T V"], tuple[Cache, ...] | None]:
        """Return (logits, caches) after each of these inputs."""
        x, caches = self.decode(inputs, positions, None, mask, caches)
        table = self.token_embedding if self.config.tied else self.output_embedding
        logits = jax.lax.dot_general(x, table.astype(x.dtype), (((2,), (1,)), ((), ())))
        return with_logical_constraint(logits.astype(jnp.float32), ("batch", "length", "vocab")), caches

    def _embed(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], side: str, keys: Keys | None
    ) -> Float[Array, "B T W"]:
        c = self.config
        x = lookup(self.token_embedding, tokens)
        if c.scale_embedding:
            x = x * c.width**0.5
        if c.position == "learned":
            x = x + lookup(getattr(self, f"{side}_positions"), jnp.minimum(positions, c.positions - 1))
        if c.position == "sinusoidal":
            x = x + sinusoids(positions, c.width)
        return dropout(x.astype(c.dtype), c.dropout, keys)


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """Build a T5 for pairs or running text. Player "model".

    Its likelihood is exact: of the target given the source, per target token with eos. For running text it is
    that of the dropped spans given the rest, and its kind is "conditional": it is not the text's likelihood.

    Raises:
      ConfigError: the data has neither pairs nor text, its rows are longer than the learned positions, or
        `heads` does not divide `width`.
    """
    del stages
    pairs = Pairs.of(spec, config.density, config.mean_span, config.vocabulary)
    for name in {pairs.source, pairs.target} & {*spec.elements}:
        config.check_length(spec[name].shape[0], f"a row of {name!r}")
    m = _T5(config, spec, pairs, T5(config, pairs.vocabulary))
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective)},
        sample=m.sample,
        likelihood=m.likelihood,
        likelihood_kind="exact" if pairs.paired else "conditional",
        decoder=m.decoder,
    )


@dataclasses.dataclass(frozen=True)
class _T5:
    """Implement the contract."""

    config: Config
    spec: Spec
    pairs: Pairs
    network: T5

    def apply(self, variables: Variables, *args, method: str | None = None) -> Any:
        return self.network.apply({"params": variables.params["model"]}, *args, method=method)

    def table(self, variables: Variables) -> Float[Array, "V W"]:
        """Return the table whose products with the activations are the logits."""
        return variables.params["model"]["token_embedding" if self.config.tied else "output_embedding"]

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        pair = self.pairs.example()
        return Variables(params={"model": self.network.init(key, pair, pair.target)["params"]}, frozen=frozen)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        pair = self.pairs.read(batch, fold(keys, 0))
        noise = fold(keys, 1) if step is not None and self.config.dropout else None
        x = self.apply(variables, pair, self.pairs.shift(pair.target), noise)
        smoothing = self.config.smoothing if step is not None else 0.0
        sums = readout(x, self.table(variables), None, pair.target, pair.target_mask, smoothing)
        count = pair.target_mask.sum()
        metrics = {"accuracy": Mean(sums.hits, count)}
        if smoothing:
            metrics["nats"] = Mean(sums.nats, count)
        return Mean(sums.loss, count), Aux(variables.state, metrics)

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, dict]:
        """Compute the nats of every row's target given its source, and the count of target tokens."""
        pair = self.pairs.read(batch, fold(keys, 0))
        x = self.apply(variables, pair, self.pairs.shift(pair.target))
        nats = row_nats(x, self.table(variables), None, pair.target, pair.target_mask)
        return Mean(nats, pair.target_mask.sum(-1)), {}

    # --- decoding ----------------------------------------------------------------------------------

    @functools.cached_property
    def decoder(self) -> Decoder:
        return Decoder(self.start, self.advance, self.commit)

    @functools.cached_property
    def text(self) -> Decoder:
        """Return a decoder that writes no special tokens; for running text, no eos either."""
        silent = self.pairs.silent if self.pairs.paired else (*self.pairs.silent, self.pairs.eos)
        return without(self.decoder, silent)

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> dict:
        """Encode the source of the prompt (num x S, with its lengths); a single eos without a source."""
        name = self.pairs.source
        source = prompt.get(name, jnp.full((num, 1), self.pairs.eos)).astype(jnp.int32)
        lengths = prompt.get(length_of(name), jnp.full((num,), source.shape[1]))
        mask = inside(source, lengths).astype(jnp.float32)
        kv = self.apply(variables, source, mask, length, method="begin")
        return {"kv": kv, "source_mask": mask, "length": jnp.zeros((num,), jnp.int32)}

    def advance(self, variables: Variables, cache: dict, tokens: jax.Array) -> tuple[jax.Array, dict]:
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])[None]
        logits, kv = self.apply(
            variables, tokens, positions, cache["source_mask"], cache["kv"], method="write"
        )
        return logits, {**cache, "kv": kv}

    def commit(self, trail: dict, count: jax.Array) -> dict:
        return {**trail, "length": trail["length"] + count}

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        length: Count | None = None,
        temperature: NotNegative = 1.0,
        top_k: Count | None = None,
        top_p: Probability | None = None,
        min_p: Share | None = None,
        typical_p: Probability | None = None,
        repetition_penalty: Positive = 1.0,
        frequency_penalty: Signed = 0.0,
        presence_penalty: Signed = 0.0,
        min_length: Natural = 0,
        constraint: Constraint | None = None,
        beams: Count = 1,
        length_penalty: Signed = 1.0,
    ) -> Batch:
        """Sample the targets of the prompt's sources, or continue running text.

        Pairs: the target and its length, padded to `length` (that of the data if None). Running text: rows of
        `length` tokens that begin with those of the prompt; the model predicts the span that follows them.
        The other options are those of sampling.rows.sampler.
        """
        narrow = (top_k, top_p, min_p, typical_p, repetition_penalty, frequency_penalty, presence_penalty)
        policy = Truncation(temperature, *narrow)
        check_options(policy, beams, length_penalty)
        how: dict[str, Any] = {"beams": beams, "length_penalty": length_penalty, "min_length": min_length}
        how |= {"constraint": constraint, "pad": self.pairs.pad}

        def draw(decoder: Decoder, first: Int[Array, "B P"], **more: Any) -> Int[Array, "B N"]:
            return go_on(decoder, variables, keys, first, policy, **how, **more)[0]

        paired = self.pairs.paired or self.pairs.source in prompt
        if min_length and not paired:
            raise ConfigError(f"min_length={min_length} has no effect: a row has no stop", "leave it out")
        if min_length > (length or self.pairs.width):
            raise ConfigError(f"min_length={min_length} is beyond the length", "lower it, or raise length")
        return (self.write if paired else self.go_on)(prompt, keys.shape[0], length, draw)

    def write(self, prompt: Batch, num: int, length: int | None, draw: Callable[..., jax.Array]) -> Batch:
        """Return the targets of the prompt's source, with their lengths."""
        pairs = self.pairs
        new = length or pairs.width
        self.config.check_length(new, "length: a target")
        given = {k: v for k, v in prompt.items() if k in (pairs.source, length_of(pairs.source))}
        decoder = self.text if pairs.paired else self.decoder
        first = jnp.full((num, 1), pairs.pad, jnp.int32)
        drawn = draw(decoder, first, length=new, prompt=given, stop=(pairs.eos,))
        target, size = pairs.trim(drawn)
        name = pairs.target if pairs.paired else TARGET
        return {name: target, length_of(name): size}

    def go_on(self, prompt: Batch, num: int, length: int | None, draw: Callable[..., jax.Array]) -> Batch:
        """Return rows of `length` tokens that begin with those of the prompt."""
        total = length or self.pairs.width
        # The sentinel and the eos of a source, and the two tokens that begin a target, need positions too.
        self.config.check_length(total + 2, "length: a row and its marks")
        name = self.pairs.target
        tokens, lengths = given_tokens(prompt, name, num, total)
        need = total - (0 if LENGTH in prompt else tokens.shape[1])
        if need == 0:
            return {name: tokens}
        begun = jnp.array([[self.pairs.pad, self.pairs.sentinels[0]]], jnp.int32)
        first = jnp.broadcast_to(begun, (num, 2))
        new = draw(self.text, first, length=need, prompt=self.pairs.ask(tokens, lengths), stop=())
        at = jnp.arange(total)[None] - lengths[:, None]
        drawn = jnp.take_along_axis(new, jnp.clip(at, 0, need - 1), axis=1)
        given = jnp.pad(tokens, ((0, 0), (0, total - tokens.shape[1])))
        return {name: jnp.where(at < 0, given, drawn)}
