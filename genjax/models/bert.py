"""BERT: a bidirectional transformer that learns to predict masked tokens.

Devlin et al. 2019, arXiv:1810.04805. The default form is BERT's: post-norm, learned positions, GELU, and a
prediction head before the transposed embedding. Rows of text are read as a whole; images as a start token
that carries the label, then their pixels. The model fills masks, gives features of tokens and of sentences,
and samples rows by filling them in several steps (sampling.masked). It has no likelihood, since the product
of its conditionals is not a distribution over rows. With objective="absorbing" it is a diffusion over tokens
(Austin et al. 2021, arXiv:2107.03006; Sahoo et al. 2024, arXiv:2406.07524), whose bound is one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Bool, Float, Int

from genjax.config import (
    Count,
    Layers,
    Multiple,
    Natural,
    NotNegative,
    Positive,
    Probability,
    Rate,
    Share,
    Width,
    check,
    unused,
)
from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.corruption import Masked, absorb_tokens, mask_tokens
from genjax.functional.readout import readout, row_nats
from genjax.nn.activations import PLAIN, Activation
from genjax.nn.attention import Implementation
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup
from genjax.nn.linear import Linear, linear
from genjax.nn.norms import norm
from genjax.nn.transformer import Stack, Transformer
from genjax.sampling.masked import Refinement, refine
from genjax.views.columns import LENGTH, SEGMENT, TOKEN_MASK
from genjax.views.sequences import Sequence, given_tokens, positions, restarting_positions


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a BERT.

    Attributes:
      layers, heads, width: number of layers, attention heads per layer, features per token.
      mlp: inner width of the MLP as a multiple of `width`.
      activation: of the MLP.
      norm, epsilon, prenorm, bias: see nn.transformer.Stack; post-norm also normalises the embeddings.
      position: "learned" or "rope" (rotary).
      positions: number of learned positions; None for the length of a row.
      token_types: number of segment types in batch["token_type"]; 0 for none.
      head: the model has the prediction head; without it the model gives features only, and cannot be
        trained.
      pooler: the model has the layer that maps the first token's feature (BERT's [CLS]) to one of the row.
      objective: "mlm", BERT's; or "absorbing": any number of a row's tokens is masked, and each predicted
        one has the weight of the diffusion's bound.
      rate: fraction of the tokens of a row that is predicted ("mlm").
      kept, random: fractions of those that stay unchanged, and that become a random token ("mlm").
      dropout: of the embeddings and every residual branch.
      vocabulary: rows of the embedding if more than needed; None for as many as needed.
      init_std: standard deviation of the initial embeddings and kernels.
      dtype: of products; parameters are float32.
      remat, implementation: see nn.transformer.Stack and nn.attention.attend.
    """

    layers: Layers = 4
    heads: Width = 4
    width: Width = 128
    mlp: Multiple = 4.0
    activation: Activation = "gelu"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    epsilon: Positive = 1e-12
    prenorm: bool = False
    bias: bool = True
    position: Literal["learned", "rope"] = "learned"
    positions: Width | None = None
    token_types: Natural = 0
    head: bool = True
    pooler: bool = False
    objective: Literal["mlm", "absorbing"] = "mlm"
    rate: Probability = 0.15
    kept: Share = 0.1
    random: Share = 0.1
    dropout: Rate = 0.1
    vocabulary: Count | None = None
    init_std: NotNegative = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    implementation: Implementation = "auto"

    def __post_init__(self):
        check(self)
        if self.objective == "absorbing":
            unused(self, "objective", "rate", "kept", "random")
            if not self.head:
                raise ValueError("objective='absorbing' needs head=True: nothing else is trained")
        if self.kept + self.random > 1:
            raise ConfigError(
                f"model.kept={self.kept} and model.random={self.random} are more than all chosen tokens",
                "give fractions whose sum is at most 1",
            )

    def stack(self) -> Stack:
        """Return the form of the transformer."""
        return Stack(
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            hidden=round(self.mlp * self.width),
            activation=self.activation,
            norm=self.norm,
            norm_epsilon=self.epsilon,
            bias=self.bias,
            prenorm=self.prenorm,
            causal=False,
            rope=self.position == "rope",
            dropout=self.dropout,
            implementation=self.implementation,
            remat=self.remat,
            dtype=self.dtype,
            init_std=self.init_std,
            out_std=None if self.prenorm else self.init_std,
            down_std=None if self.prenorm else self.init_std,
        )


class Rows(NamedTuple):
    """Hold a batch as BERT reads it.

    Attributes:
      types: segment types; None for type 0 everywhere.
      text: True on tokens that may be predicted: not on padding and special tokens.
    """

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    segments: Int[Array, "B T"] | None
    types: Int[Array, "B T"] | None
    text: Bool[Array, "B T"]


class BERT(nn.Module):
    """Map tokens to features, and features to logits or a feature of the row."""

    config: Config
    vocabulary: int
    positions: int

    def setup(self):
        c = self.config
        small = nn.initializers.normal(c.init_std)
        make = lambda: norm(c.norm, bias=c.bias, epsilon=c.epsilon)
        self.token_embedding = self.param("token_embedding", small, (self.vocabulary, c.width))
        if c.position == "learned":
            self.places = self.param("position_embedding", small, (self.positions, c.width))
        if c.token_types:
            self.types = self.param("type_embedding", small, (c.token_types, c.width))
        if not c.prenorm:
            self.embedding_norm = make()
        self.stack = Transformer(c.stack())
        if c.head:
            self.transform = Linear(c.width, bias=c.bias, std=c.init_std, dtype=c.dtype)
            self.transform_norm = make()
            self.output_bias = self.param("output_bias", nn.initializers.zeros, (self.vocabulary,))
        if c.pooler:
            self.pooler = Linear(c.width, bias=c.bias, std=c.init_std, dtype=c.dtype)

    def __call__(self, rows: Rows, keys: Keys | None = None) -> Float[Array, "B T W"]:
        """Compute the features of every token."""
        c = self.config
        x = lookup(self.token_embedding, rows.tokens)
        if c.position == "learned":
            x = x + lookup(self.places, jnp.minimum(rows.positions, self.positions - 1))
        if c.token_types:
            types = jnp.zeros_like(rows.tokens) if rows.types is None else rows.types
            x = x + lookup(self.types, types)
        x = x.astype(c.dtype)
        if not c.prenorm:
            x = self.embedding_norm(x)
        x = dropout(x, c.dropout, fold(keys, 0))
        return self.stack(x, rows.positions, None, fold(keys, 1), segments=rows.segments)[0]

    def initialise(self, rows: Rows) -> None:
        """Use every parameter, so that `init` creates it."""
        x = self(rows)
        if self.config.head:
            self.read(x)
        if self.config.pooler:
            self.pool(x)

    def read(self, x: Float[Array, "B K W"]) -> Float[Array, "B K W"]:
        """Transform features for the product with the output embedding."""
        return self.transform_norm(PLAIN.get(self.config.activation, PLAIN["gelu"])(self.transform(x)))

    def write(self, x: Float[Array, "B K W"]) -> Float[Array, "B K V"]:
        """Compute the logits of features."""
        logits = linear(self.read(x), self.token_embedding.T.astype(x.dtype)).astype(jnp.float32)
        logits = logits + self.output_bias[None, None]
        return with_logical_constraint(logits, ("batch", "length", "vocab"))

    def pool(self, x: Float[Array, "B T W"]) -> Float[Array, "B W"]:
        """Compute the feature of each row from that of its first token."""
        return jnp.tanh(self.pooler(x[:, 0]))


def build(config: Config, spec: Spec, stages: dict[str, Model]) -> Model:
    """Build a BERT for text or quantised images. Player "model"; its likelihood is a bound, or none ("mlm").

    Raises:
      ConfigError: the data has no discrete target, its rows are longer than the learned positions, or
        `heads` does not divide `width`.
    """
    del stages
    sequence = Sequence.of(spec)
    special = dict(spec.special) if sequence.text else {}
    top = sequence.levels if sequence.text else sequence.vocabulary
    mask = special.get("mask", top)
    vocabulary = max(config.vocabulary or 0, top, mask + 1)
    width = sequence.length + 1  # with the first token of a text or the start token of an image
    places = config.positions or width
    if config.position == "learned" and places < width:
        raise ConfigError(
            f"a row has {width} tokens, and model.positions={places}",
            "raise model.positions, or leave it out",
        )
    network = BERT(config, vocabulary, places)
    m = _BERT(config, spec, sequence, network, mask, tuple(special.values()))
    return Model(
        init=m.init,
        phases={"mlm": Phase("model", m.objective)} if config.head else {},
        sample=m.sample if config.head else None,
        mask=mask if config.head else None,
        predict=m.predict,
        likelihood=m.likelihood if config.objective == "absorbing" else None,
        likelihood_kind="bound",
    )


@dataclasses.dataclass(frozen=True)
class _BERT:
    """Implement the contract.

    Attributes:
      mask: id of the mask token.
      special: ids of all special tokens.
    """

    config: Config
    spec: Spec
    sequence: Sequence
    network: BERT
    mask: int
    special: tuple[int, ...]

    def apply(self, variables: Variables, *args, method: str | None = None) -> Any:
        return self.network.apply({"params": variables.params["model"]}, *args, method=method)

    def rows(self, batch: Batch) -> Rows:
        """Return a batch as the network reads it."""
        values = batch[self.sequence.element].astype(jnp.int32)
        values = values.reshape(values.shape[0], -1)
        if not self.sequence.text:
            tokens = jnp.concatenate([self.sequence.start(batch, values.shape[0]), values], axis=1)
            text = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None] > 0, tokens.shape)
            return Rows(tokens, positions(tokens), None, None, text)
        segments = _segments(batch, values)
        text = jnp.ones(values.shape, bool) if segments is None else segments > 0
        for token in self.special:
            text &= values != token
        places = positions(values) if segments is None else restarting_positions(segments)
        return Rows(values, places, segments, batch.get("token_type"), text)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        params = self.network.init(key, self.rows(self.spec.example(1)), method="initialise")["params"]
        return Variables(params={"model": params}, frozen=frozen)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        row = self.rows(batch)
        places = jax.vmap(jax.random.uniform)(fold(keys, 2))
        hidden = self.hidden(row, fold(keys, 0), places)
        noise = fold(keys, 1) if step is not None and self.config.dropout else None
        x = self.apply(variables, row._replace(tokens=hidden.tokens), noise)
        # The head reads the chosen positions only, about an eighth of all.
        x = self.apply(variables, jnp.take_along_axis(x, hidden.places[..., None], axis=1), method="read")
        params = variables.params["model"]
        targets = jnp.take_along_axis(row.tokens, hidden.places, axis=1)
        weights = hidden.weights * batch["mask"][:, None]
        sums = readout(x, params["token_embedding"], params["output_bias"], targets, weights)
        # The weights of the bound sum to the number of tokens in expectation; that number has no noise.
        tokens = (row.text * batch["mask"][:, None]).sum()
        count = weights.sum() if self.config.objective == "mlm" else tokens.astype(jnp.float32)
        return Mean(sums.loss, count), Aux(variables.state, {"accuracy": Mean(sums.hits, weights.sum())})

    def hidden(self, row: Rows, keys: Keys, places: Float[Array, " B"]) -> Masked:
        """Mask tokens of each row; `places` in [0, 1) decide how many ("absorbing")."""
        c = self.config
        if c.objective == "absorbing":
            return jax.vmap(functools.partial(absorb_tokens, mask=self.mask))(
                keys, row.tokens, row.text, places
            )
        shares = {"rate": c.rate, "kept": c.kept, "random": c.random}
        hide = functools.partial(mask_tokens, mask=self.mask, vocabulary=self.sequence.levels, **shares)
        return jax.vmap(hide)(keys, row.tokens, row.text)

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, terms: Count = 8
    ) -> tuple[Mean, dict]:
        """Estimate the bound of absorbing diffusion in nats per row.

        Args:
          terms: numbers of masked tokens that are evaluated per row, evenly spaced from a random start: an
            unbiased estimate, from one evaluation of the network each.
        """
        row = self.rows(batch)
        start = jax.vmap(jax.random.uniform)(fold(keys, 2))
        params = variables.params["model"]

        def one(total: jax.Array, n: jax.Array) -> tuple[jax.Array, None]:
            site = jax.vmap(jax.random.fold_in, (0, None))(fold(keys, 0), n)
            hidden = self.hidden(row, site, (n + start) / terms)
            x = self.apply(variables, row._replace(tokens=hidden.tokens))
            x = self.apply(variables, x, method="read")
            table, bias = params["token_embedding"], params["output_bias"]
            return total + row_nats(x, table, bias, row.tokens, hidden.weights), None

        total, _ = jax.lax.scan(one, jnp.zeros(row.tokens.shape[0]), jnp.arange(terms))
        mask = batch["mask"]
        nats = jnp.where(mask > 0, total / terms, 0.0)
        return Mean(nats, row.text.sum(1).astype(jnp.float32) * mask), {}

    def predict(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """Return the features of rows as they are: put `mask` where a token is to be predicted.

        Returns:
          features (B x T x W); embedding (B x W), the mean feature of the tokens of a row (those with a
          segment, or the first `length`), of unit length; logits (B x T x V) with the head; pooled (B x W)
          with the pooler.
        """
        row = self.rows(batch)
        x = self.apply(variables, row)
        seen = jnp.ones(row.tokens.shape) if row.segments is None else (row.segments > 0).astype(jnp.float32)
        mean = (x.astype(jnp.float32) * seen[..., None]).sum(1) / jnp.maximum(seen.sum(1), 1)[:, None]
        norms = jnp.sqrt(jnp.square(mean).sum(-1, keepdims=True))
        out = {"features": x, "embedding": mean / jnp.maximum(norms, 1e-12)}
        if self.config.head:
            out["logits"] = self.apply(variables, x, method="write")
        if self.config.pooler:
            out["pooled"] = self.apply(variables, x, method="pool")
        return out

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        steps: Count = 16,
        schedule: Literal["linear", "cosine"] = "cosine",
        revisit: bool = False,
        temperature: NotNegative = 1.0,
        top_k: Count | None = None,
        top_p: Probability | None = None,
        choice: NotNegative = 1.0,
        length: Count | None = None,
    ) -> Batch:
        """Sample rows by filling masked positions in `steps` predictions: see sampling.masked.Refinement.

        Args:
          prompt: may hold the label, and a beginning under the element's own name (see `given_tokens`), whose
            mask tokens are filled too.
          length: tokens of a row of text; that of the data if None.
        """
        how = Refinement(steps, schedule, revisit, temperature, top_k, top_p, choice)
        tokens, unknown = self.begun(prompt, keys.shape[0], length)
        places = positions(tokens)
        silent = sorted({self.mask, *self.special, *range(self.sequence.levels, self.network.vocabulary)})

        def guess(tokens: jax.Array) -> jax.Array:
            x = self.apply(variables, Rows(tokens, places, None, None, unknown))
            return (
                self.apply(variables, x, method="write").at[..., jnp.array(silent, jnp.int32)].set(-jnp.inf)
            )

        filled = refine(guess, keys, tokens, unknown, mask=self.mask, how=how).tokens
        rows = self.sequence.decode(filled[:, 0 if self.sequence.text else 1 :])
        return {**rows, **self.sequence.condition(prompt)}

    def begun(
        self, prompt: Batch, num: int, length: int | None
    ) -> tuple[Int[Array, "num T"], Bool[Array, "num T"]]:
        """Return (rows of given tokens and masks, True where they are to be filled), with the start token."""
        text = self.sequence.text
        width = self.sequence.length + 1
        first = 0 if text else 1
        total = width if length is None else length + first
        rotary = self.config.position == "rope"
        limit = (total if rotary else self.network.positions) if text else width
        if total > limit:
            raise ConfigError(f"length {length} is beyond the {limit} positions", "ask for a shorter row")
        given, lengths = given_tokens(prompt, self.sequence.element, num, total - first)
        around = ((0, 0), (first, total - first - given.shape[1]))
        tokens = jnp.pad(given, around, constant_values=self.mask)
        unknown = (jnp.arange(total)[None] >= lengths[:, None] + first) | (tokens == self.mask)
        if first:
            tokens = tokens.at[:, :1].set(self.sequence.start(prompt, num))
            unknown = unknown.at[:, 0].set(False)
        return tokens, unknown


def _segments(batch: Batch, tokens: Int[Array, "B T"]) -> Int[Array, "B T"] | None:
    """Return the document of each token, 0 for padding; None if each row is one document."""
    if SEGMENT in batch:
        return batch[SEGMENT].astype(jnp.int32)
    if LENGTH in batch:
        return (jnp.arange(tokens.shape[1])[None] < batch[LENGTH][:, None]).astype(jnp.int32)
    if TOKEN_MASK in batch:
        # The mask is of targets: the first token of a row always counts.
        return jnp.pad((batch[TOKEN_MASK] > 0).astype(jnp.int32), ((0, 0), (1, 0)), constant_values=1)
    return None
