"""What every model is: pure functions over one tree. Imports jax and flax.struct only.

The whole of genjax meets in this file. A model is a `Model`: an `init`, the `plays` by which it learns,
and the capabilities its family has. The one training step (training/step.py), the samplers
(sampling/), the metrics (evaluation/) and the report know nothing of an architecture beyond this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

Tree: TypeAlias = Any
"""A pytree of arrays."""
Batch: TypeAlias = dict[str, Any]
"""Named arrays, every leaf batch-first. Reserved names: `mask` (B float32, 0 marks padding rows) and
`carry` (what the previous batch of the same rows left behind)."""
Keys: TypeAlias = jax.Array
"""Typed PRNG keys of shape (B,): one per row, so that noise does not depend on how rows are grouped."""

AXIS = "data"
"""The mapped axis of the pmap engine."""


@dataclasses.dataclass(frozen=True)
class Element:
    """One named array of a batch, without the batch axis.

    Attributes:
      shape: of one row, e.g. (28, 28, 1) for an image (height, width, channels).
      dtype: a numpy dtype name, e.g. "uint8".
      levels: the values are integers in [0, levels): the grey levels of an image (17 for 4-bit digits
        with an inclusive maximum, 256 for 8-bit images), the classes of a label, the vocabulary of
        tokens. None for real-valued data.
    """

    shape: tuple[int, ...]
    dtype: str
    levels: int | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a model may know of a dataset before it sees a row.

    Attributes:
      elements: the batch's named arrays. Conventional names: `image` (HxWxC, uint8, levels),
        `label` (scalar int32, levels), `tokens` (T+1 int32, levels: inputs are tokens[:-1], targets
        tokens[1:]), `point` (D float32). `mask` is always present in a batch and never listed here.
      rows: rows of the training split: the capacity that a counting model must provide for.
      special: tokens that mean something beside their text, by name: pad, eos, bos, unk, mask, cls, sep,
        sentinel_0, sentinel_1 ... Empty where the tokenizer has none.
    """

    elements: Mapping[str, Element]
    rows: int = 0
    special: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.elements

    def __getitem__(self, name: str) -> Element:
        return self.elements[name]

    def classes(self, name: str = "label") -> int:
        """How many classes the named label has; 0 where the data has none."""
        return (self.elements[name].levels or 0) if name in self.elements else 0

    def example(self, batch: int) -> Batch:
        """A batch of zeros with this form, for tracing and initialisation."""
        rows = {k: jnp.zeros((batch, *e.shape), e.dtype) for k, e in self.elements.items()}
        return {**rows, "mask": jnp.ones((batch,), jnp.float32)}


@struct.dataclass
class Variables:
    """All that a model has learned. The step alone writes `params` and `ema`.

    Attributes:
      params: learned by gradient, {player: tree}.
      state: learned by accumulation (counts, codebooks, batch statistics); no batch axis.
      ema: named averages of params, {name: {player: tree like params[player]}}.
      frozen: finished earlier stages, {stage: Variables}; an argument of the compiled step, never a
        closure constant; never saved, written or donated.
    """

    params: dict[str, Tree] = struct.field(default_factory=dict)
    state: Tree = struct.field(default_factory=dict)
    ema: dict[str, dict[str, Tree]] = struct.field(default_factory=dict)
    frozen: dict[str, Variables] = struct.field(default_factory=dict)

    def at(self, name: str | None) -> Variables:
        """The same model at one of its averages; itself where `name` is None or not kept."""
        if name is None or name not in self.ema:
            return self
        return self.replace(params={**self.params, **self.ema[name]})

    def replace(self, **changes: Any) -> Variables:  # narrows the generated method's type
        return dataclasses.replace(self, **changes)


@struct.dataclass
class Mean:
    """A mean kept as total / count, so that it adds exactly across rows, micro-batches and devices.

    A loss is one too: ragged and masked batches then come out right however they are divided.
    Leaves may be vectors (one mean per row or per class).
    """

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, x: jax.Array, mask: jax.Array | None = None) -> Mean:
        """The mean of all of `x`, weighted by `mask` over x's leading axes."""
        if mask is None:
            mask = jnp.ones((), x.dtype)
        mask = jnp.asarray(mask, x.dtype).reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        # where, not a product alone: a padding row may be infinite or NaN and must not count.
        total = jnp.where(mask == 0, 0, x * mask).sum()
        return cls(total, jax.lax.stop_gradient(jnp.broadcast_to(mask, x.shape).sum()))

    @property
    def value(self) -> jax.Array:
        """total / count, and 0 where nothing was counted."""
        return self.total / jnp.where(self.count == 0, 1, self.count)

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)


class Aux(NamedTuple):
    """What an objective returns beside its loss.

    Attributes:
      state: the next Variables.state, whole. Where it sums over rows, reduce it with `across`.
      metrics: named means to log.
      carry: batch-first; the next batch["carry"] of the same rows (truncated backpropagation).
    """

    state: Tree
    metrics: dict[str, Mean] = {}  # noqa: RUF012 (never mutated)
    carry: Tree = {}  # noqa: RUF012


class Objective(Protocol):
    """A loss to minimise: a Mean over rows, whose total's gradient is what is accumulated."""

    def __call__(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """step: int32 in training; None in evaluation (no dropout, final weights of a schedule).

        Noise is drawn per row from keys; plays of one step get the same keys, so that XLA merges
        their shared forward passes; independent noise is fold_in(key, n).
        """
        ...


class Play(NamedTuple):
    """`player` descends `objective` at every `every`-th step; several plays may share a player.

    `rowwise` says that the loss is a sum over rows, each a function of that row alone: then
    accumulated gradients equal the large batch's. False where it looks across rows (batch norm).
    """

    player: str
    objective: Objective
    every: int = 1
    rowwise: bool = True


class Decoder(NamedTuple):
    """Autoregressive decoding. Every cache leaf is batch-first: beams and prefixes are x[rows].

    Attributes:
      start: (variables, prompt, num, length) -> cache for `num` rows of at most `length` tokens.
      step: (variables, cache, tokens_BxT) -> (logits_BxTxV, trail): reads T tokens at once.
      keep: (trail, count_B) -> cache after the first count of those T tokens (ragged, speculative).
    """

    start: Callable[..., Tree]
    step: Callable[..., tuple[jax.Array, Tree]]
    keep: Callable[[Tree, jax.Array], Tree]


class Codec(NamedTuple):
    """A learned code. encode: (variables, batch, keys) -> codes; decode: (variables, codes) -> batch."""

    encode: Callable[..., Tree]
    decode: Callable[..., Batch]


class Denoiser(NamedTuple):
    """A Gaussian diffusion: x_t = alpha(t) x_0 + sigma(t) noise, t in [0, 1].

    Attributes:
      path: t -> (alpha, sigma).
      denoise: (variables, x_t, t_B, prompt) -> E[x_0 | x_t].
    """

    path: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    denoise: Callable[..., jax.Array]


class Model(NamedTuple):
    """A generative model (or a classifier, which has no sample): functions over Variables.

    Attributes:
      init: (key, batch, frozen) -> Variables; must run under jax.eval_shape.
      plays: in order; a later play sees what the earlier ones have updated.
      carry: batch -> the zero carry of these rows.
      finish: variables -> variables before use, evaluation in training included (sort counts, refit
        statistics); never saved.
      sample: (variables, keys_B, prompt, **knobs) -> batch like the data's, one row per key. `prompt`
        is a batch-first dict with what is conditioned on ({"label": B} or {"tokens": BxP}), or {}.
      likelihood: (variables, batch, keys, **knobs) -> (Mean per row: total nats, count of units; carry).
      likelihood_kind: "exact", "bound" (an upper bound of the nats), "density" (of real-valued data: not
        comparable with the others) or "conditional" (of a part of a row given the rest: spans that were
        dropped from it). Scores of different kinds never share a column.
      predict: (variables, batch) -> {"logits", "features", ...}.
      rates: (player, params) -> a tree like params of factors on Adam's learning rate (what a
        parametrisation such as muP asks for); None for 1 everywhere.
    """

    init: Callable[..., Variables]
    plays: dict[str, Play]
    carry: Callable[[Batch], Tree] = lambda batch: {}
    finish: Callable[[Variables], Variables] = lambda variables: variables
    sample: Callable[..., Batch] | None = None
    likelihood: Callable[..., tuple[Mean, Tree]] | None = None
    likelihood_kind: str = "exact"
    predict: Callable[..., dict[str, jax.Array]] | None = None
    decoder: Decoder | None = None
    codec: Codec | None = None
    denoiser: Denoiser | None = None
    rates: Callable[[str, Tree], Tree] | None = None

    def replace(self, **changes: Any) -> Model:
        """This model with some of its functions changed (composition)."""
        return self._replace(**changes)


def across(x: Tree, reduce: Callable = jax.lax.psum) -> Tree:
    """`x` reduced over the global batch: identity under jit, the collective where AXIS is mapped."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:
        return x
    return jax.tree.map(lambda leaf: reduce(leaf, AXIS), x)


def row_keys(root: jax.Array, stream: jax.Array | int, rows: jax.Array) -> Keys:
    """One key per global row: fold_in(fold_in(root, stream), row). `stream` is the step, or a constant.

    No key is ever stored: a resumed run draws what the uninterrupted one would have.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(root, stream), rows)
