"""Recurrent networks over the tokens of text, the pixels of an image or the frames of a piano roll.

Elman's network, LSTM and GRU, stacked. Over running text they are trained by truncated backpropagation
(Mikolov et al. 2010; Graves 2013, arXiv:1308.0850): with data.order="lanes" a row starts from the last state
of the previous row of its lane, gradients stop at the beginning of the row, and the state is set to zero
where another document (`segment`) begins. Without lanes every training row starts from a zero state.
Evaluation always reads lanes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_constraint
from jaxtyping import Array, Float, Int

from genjax.config import Layers, Rate, Share, Width, check
from genjax.core import Aux, Batch, Decoder, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.functional.losses import per_row
from genjax.nn.dropout import fold
from genjax.nn.linear import Linear
from genjax.nn.recurrent import Kind, Recurrent, State
from genjax.nn.sequence_embedding import embed, unembed
from genjax.sampling.rows import sampler
from genjax.views.columns import RESET, TOKEN_MASK
from genjax.views.frames import View, view
from genjax.views.sequences import dropped


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a recurrent network.

    Attributes:
      cell: "elman", "lstm" or "gru".
      layers, width: number of layers, and features of each layer's state.
      embedding: features of an embedded token or frame; None for `width`.
      tied: the output projection is the transposed embedding, after a projection to its width if that
        differs.
      layer_norm: normalise each layer's products (Ba et al. 2016).
      dropout: of the inputs of every layer and the outputs of the last.
      variational: dropout has one mask for all steps of a row (Gal & Ghahramani 2016) instead of one per
        step.
      recurrent_dropout: of the state in the recurrent product, with one mask for all steps of a row.
      carry: over running text, evaluation and lanes go on from row to row. Set it False where rows do not
        continue each other: documents packed into rows. Images and padded rows never do.
      condition_dropout: fraction of the training rows that begin with the start token without a condition,
        and with zero state. Images lose their label, as guidance needs; text and rolls are read from their
        first token, as sampling without a prompt needs.
      dtype: of products; parameters, gates and states are float32.
    """

    cell: Kind = "lstm"
    layers: Layers = 2
    width: Width = 256
    embedding: Width | None = None
    tied: bool = False
    layer_norm: bool = False
    dropout: Rate = 0.0
    variational: bool = False
    recurrent_dropout: Rate = 0.0
    carry: bool = True
    condition_dropout: Share = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        check(self)

    def stack(self) -> Recurrent:
        """Return the stack of layers."""
        return Recurrent(
            kind=self.cell,
            layers=self.layers,
            width=self.width,
            layer_norm=self.layer_norm,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            variational=self.variational,
            dtype=self.dtype,
            name="stack",
        )

    def zeros(self, num: int) -> tuple[State, ...]:
        """Return the zero states of `num` rows."""
        return Recurrent.zeros(self.cell, self.layers, self.width, num)


class RNN(nn.Module):
    """Map tokens or frames to logits of the next one, and to the states after each (time-major)."""

    config: Config
    sequence: View

    @nn.compact
    def __call__(
        self,
        inputs: Int[Array, "B T *K"],
        states: tuple[State, ...],
        keep: Float[Array, "B T"] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "B T V"], tuple[State, ...]]:
        c = self.config
        width = c.embedding or c.width
        # Tied, a row of the table is an output's weights too: logits of a bounded state stay near 0.
        init = nn.initializers.normal(width**-0.5 if c.tied else 1.0)
        x, table = embed(self, self.sequence, inputs, width, init)
        x, states = c.stack()(x.astype(c.dtype), states, keep, keys)
        if c.tied and width != c.width:
            x = Linear(width, bias=False, std=c.width**-0.5, dtype=c.dtype, name="projection")(x)
        tied = table if c.tied else None
        logits = unembed(self, self.sequence, x, tied, bias=True, std=c.width**-0.5, dtype=c.dtype)
        return with_logical_constraint(logits, ("batch", "length", "vocab")), states


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build a recurrent network for text, quantised images or rolls. Player "model"; exact likelihood.

    Raises:
      ConfigError: the data has no discrete target.
    """
    del stages
    sequence = view(spec)
    # Padded rows are whole pieces: none continues another.
    carried = config.carry and sequence.text and TOKEN_MASK not in spec
    m = _RNN(config, sequence, RNN(config, sequence), carried)
    decoder = Decoder(m.start, m.advance, _commit)
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective)},
        carry=m.carry,
        sample=sampler(decoder, sequence),
        likelihood=m.likelihood,
        decoder=decoder,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _RNN:
    """Implement the contract.

    Attributes:
      carried: the rows of a lane continue each other.
    """

    config: Config
    sequence: View
    network: RNN
    carried: bool

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        params = self.network.init(key, self.sequence.start({}, 1), self.config.zeros(1))["params"]
        return Variables(params={"model": params}, frozen=frozen)

    def apply(self, variables: Variables, *inputs: Any) -> tuple[jax.Array, tuple[State, ...]]:
        return self.network.apply({"params": variables.params["model"]}, *inputs)  # type: ignore[return-value]

    def carry(self, batch: Batch) -> Tree:
        """Return the carry before the first row: zero states, and no document."""
        if not self.carried:
            return {}
        num = batch["mask"].shape[0]
        return {"state": self.config.zeros(num), "segment": jnp.zeros((num,), jnp.int32)}

    def left(self, batch: Batch, states: tuple[State, ...], drop: Float[Array, " B"] | None) -> Tree:
        """Return the next row's carry: the states after the last input, and the document it belongs to."""
        if not self.carried:
            return {}
        found = self.sequence.segments(batch, drop)
        segment = jnp.zeros(batch["mask"].shape, jnp.int32) if found is None else found[0][:, -1]
        # Truncated backpropagation: no gradient from a later row reaches this one.
        return jax.lax.stop_gradient({"state": jax.tree.map(lambda s: s[-1], states), "segment": segment})

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        training = step is not None
        drop = dropped(keys, self.config.condition_dropout) if training else None
        inputs, targets, mask = self.sequence.encode(batch, drop)
        # Without lanes a training row does not continue the previous one, whatever the carry holds.
        follows = self.carried and (not training or RESET in batch)
        before = batch["carry"] if follows else {"state": self.config.zeros(mask.shape[0])}
        states, keep = _entering(self.sequence, batch, before, drop)
        out, after = self.apply(variables, inputs, states, keep, fold(keys, 1) if training else None)
        metrics = self.sequence.metrics(out, targets, mask)
        loss = Mean.of(self.sequence.nats(out, targets), mask)
        return loss, Aux(variables.state, metrics, self.left(batch, after, drop))

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, label: bool = True
    ) -> tuple[Mean, Tree]:
        """Compute the nats of every row and its count of predicted tokens.

        A row of running text is also given the rows before it in its lane, back to the start of its document.

        Args:
          label: given its label; False for the probability without one.
        """
        inputs, targets, mask = self.sequence.encode(batch)
        if not label:
            inputs = self.sequence.unconditional(inputs)
        before = batch["carry"] if self.carried else {"state": self.config.zeros(mask.shape[0])}
        out, after = self.apply(variables, inputs, *_entering(self.sequence, batch, before, None))
        return per_row(self.sequence.nats(out, targets), mask), self.left(batch, after, None)

    def start(self, variables: Variables, prompt: Batch, num: int, length: int) -> tuple[State, ...]:
        return self.config.zeros(num)

    def advance(
        self, variables: Variables, cache: tuple[State, ...], tokens: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Return logits, and the trail: the states before the tokens and those after each of them."""
        logits, after = self.apply(variables, tokens, cache)
        return logits, {"before": cache, "after": jax.tree.map(lambda s: s.swapaxes(0, 1), after)}


def _entering(
    sequence: View, batch: Batch, before: Tree, drop: Float[Array, " B"] | None
) -> tuple[tuple[State, ...], Float[Array, "B T"] | None]:
    """Return (states before the row, keep): zero at the start of a lane, document or sample."""
    goes_on = jnp.ones(batch["mask"].shape, jnp.float32)
    if RESET in batch:
        goes_on = goes_on * (1 - batch[RESET])
    if drop is not None:
        goes_on = goes_on * (1 - drop)
    found = sequence.segments(batch, drop)
    if found is not None and "segment" in before:
        goes_on = goes_on * (found[0][:, 0] == before["segment"])
    states = jax.tree.map(lambda s: s * goes_on[:, None], before["state"])
    if found is None:
        return states, None
    same = (found[0][:, 1:] == found[0][:, :-1]).astype(jnp.float32)
    return states, jnp.pad(same, ((0, 0), (1, 0)), constant_values=1)


def _commit(trail: Tree, count: Int[Array, " B"]) -> tuple[State, ...]:
    """Return each row's states after its first `count` tokens, which may be 0."""

    def pick(before: Float[Array, "B H"], after: Float[Array, "B T H"]) -> Float[Array, "B H"]:
        chosen = after[:, 0]
        if after.shape[1] > 1:
            chosen = jnp.take_along_axis(after, jnp.maximum(count - 1, 0)[:, None, None], axis=1)[:, 0]
        return jnp.where(count[:, None] > 0, chosen, before)

    return jax.tree.map(pick, trail["before"], trail["after"])
