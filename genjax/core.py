"""Define the contract of a model: pure functions over one tree of Variables.

Imports jax, flax.struct and genjax.spec only.
A model is a `Model`: an `init`, the `phases` by which it learns, and the capabilities its family has.
The training step (training/step.py), the samplers (sampling/), the metrics (evaluation/) and the report
know nothing of an architecture beyond this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from genjax.spec import Element, Role, Spec

__all__ = [
    "AXIS",
    "Aux",
    "Batch",
    "Codec",
    "Decoder",
    "Denoiser",
    "Element",
    "Generator",
    "Keys",
    "Mean",
    "Model",
    "Objective",
    "Phase",
    "Role",
    "Spec",
    "Tree",
    "Variables",
    "across",
    "gathered",
    "own",
    "row_keys",
]

Tree: TypeAlias = Any
"""A pytree of arrays."""
Batch: TypeAlias = dict[str, Any]
"""Named arrays, every leaf batch-first. Reserved names: `mask` (B float32, 0 marks padding rows) and
`carry` (what the previous batch of the same rows left behind)."""
Keys: TypeAlias = jax.Array
"""Typed PRNG keys of shape (B,): one per row, so that noise does not depend on how rows are grouped."""

AXIS = "data"
"""The mapped axis of the pmap engine."""


@struct.dataclass
class Variables:
    """Hold all that a model has learned. Only the training step writes `params` and `ema`.

    Attributes:
      params: learned by gradient, {player: tree}.
      state: learned by accumulation (counts, codebooks, batch statistics) or fitted once on real rows
        (`Model.fit`); no batch axis.
      ema: named averages of params, {name: {player: tree like params[player]}}.
      frozen: finished earlier stages, {stage: Variables}; an argument of the compiled step, never a
        closure constant; never saved, written or donated.
    """

    params: dict[str, Tree] = struct.field(default_factory=dict)
    state: Tree = struct.field(default_factory=dict)
    ema: dict[str, dict[str, Tree]] = struct.field(default_factory=dict)
    frozen: dict[str, Variables] = struct.field(default_factory=dict)

    def at(self, name: str | None) -> Variables:
        """Return the model at one of its averages; itself if `name` is None or not kept."""
        if name is None or name not in self.ema:
            return self
        return self.replace(params={**self.params, **self.ema[name]})

    def replace(self, **changes: Any) -> Variables:  # narrows the type of the generated method
        return dataclasses.replace(self, **changes)


@struct.dataclass
class Mean:
    """Hold a mean as total / count, so that it adds exactly across rows, micro-batches and devices.

    A loss is one too: ragged and masked batches then come out right however they are divided.
    Leaves may be vectors (one mean per row or per class).
    """

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, x: jax.Array, mask: jax.Array | None = None) -> Mean:
        """Average all of `x`, weighted by `mask` over the leading axes of x."""
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
    """Hold what an objective returns beside its loss.

    Attributes:
      state: the next Variables.state, whole. Where it sums over rows, reduce it with `across`.
      metrics: named means to log.
      carry: batch-first; the next batch["carry"] of the same rows (truncated backpropagation).
    """

    state: Tree
    metrics: dict[str, Mean] = {}  # noqa: RUF012 (never mutated)
    carry: Tree = {}  # noqa: RUF012


class Objective(Protocol):
    """Compute a loss to minimise: a Mean over rows, the gradient of whose total is accumulated."""

    def __call__(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss and what goes with it.

        Args:
          step: int32 in training; None in evaluation (no dropout, final weights of a schedule).
          keys: noise is drawn per row from these. Phases of one step get the same keys, so that XLA
            merges their shared forward passes; independent noise is fold_in(key, n).
        """
        ...


class Phase(NamedTuple):
    """Describe one update: `player` descends `objective` at every `interval`-th step.

    Several phases may share a player. `rowwise` states that the loss is a sum over rows, each a function
    of that row alone: then accumulated gradients equal the gradient of the large batch. It is False if
    the loss looks across rows (batch normalisation). A phase that is not `evaluated` (a penalty) is left out
    of evaluations.
    """

    player: str
    objective: Objective
    interval: int = 1
    rowwise: bool = True
    evaluated: bool = True


class Decoder(NamedTuple):
    """Decode autoregressively. Every cache leaf is batch-first: beams and prefixes are x[rows].

    Attributes:
      start: (variables, prompt, num, length) -> cache for `num` rows of at most `length` tokens.
      step: (variables, cache, tokens_BxT) -> (logits_BxTxV, trail): reads T tokens at once.
      commit: (trail, count_B) -> cache after the first count of those T tokens (ragged, speculative).
    """

    start: Callable[..., Tree]
    step: Callable[..., tuple[jax.Array, Tree]]
    commit: Callable[[Tree, jax.Array], Tree]


class Codec(NamedTuple):
    """Encode rows as codes and decode codes as rows.

    Attributes:
      encode: (variables, batch, keys or None) -> batch of codes with the names of `spec`, beside the
        elements of the batch that are not encoded. Deterministic if keys is None.
      decode: (variables, codes) -> batch like the data's.
      spec: spec of the data -> spec of the codes. The targets are replaced by the codes (with their
        levels, or real-valued), which may be spatial; conditions and auxiliary elements stay.
      nats: (variables, batch, codes, keys) -> (B,) nats that describe a row beyond its codes,
        -log p(x | z) + log q(z | x). With the prior's -log p(z) they bound -log p(x). None if the
        codec defines no distribution over the data.
      expected: (variables, codes) -> {target: float32}, the values that `decode` rounds, in the units of the
        data; differentiable in the codes. None if the codes are integers.
    """

    encode: Callable[..., Batch]
    decode: Callable[..., Batch]
    spec: Callable[[Spec], Spec]
    nats: Callable[..., jax.Array] | None = None
    expected: Callable[..., Batch] | None = None


class Denoiser(NamedTuple):
    """Describe a Gaussian diffusion: x_t = alpha(t) x_0 + sigma(t) noise, t in [0, 1].

    Attributes:
      path: variables -> (t -> (alpha, sigma)).
      denoise: (variables, x_t, t_B, prompt) -> E[x_0 | x_t].
      read: (variables, batch) -> (x_0 in the values of the network, the conditions that `denoise` reads).
      expected: (variables, x_0, conditions) -> {target: float32}, in the units of the data, neither rounded
        nor clipped; differentiable in x_0.
      times: (steps, spacing or None) -> the times to sample along, decreasing, NumPy (steps + 1,).
      hidden: conditions -> the same ones without their content, which guidance leads away from.
      shape: of x_0 of one row.
      limit: x_0 lies in [-limit, limit]; None if its range is unknown.
      remembers: `denoise` takes its own estimate of the step before as a fifth argument, zeros at first.
      varied: as `denoise`, returns (E[x_0 | x_t], the share of a learned variance); None without.
      weaker: variables -> (x_t, t_B, prompt) -> the estimate that guidance leads away from in place of hidden
        conditions; None for these.
      alone: the model's own samples come from `denoise` and nothing else.
    """

    path: Callable[[Variables], Callable[[jax.Array], tuple[jax.Array, jax.Array]]]
    denoise: Callable[..., jax.Array]
    read: Callable[[Variables, Batch], tuple[jax.Array, Batch]] | None = None
    expected: Callable[[Variables, jax.Array, Batch], Batch] | None = None
    times: Callable[..., Any] | None = None
    hidden: Callable[[Batch], Batch] = lambda conditions: conditions
    shape: tuple[int, ...] = ()
    limit: float | None = None
    remembers: bool = False
    varied: Callable[..., tuple[jax.Array, jax.Array]] | None = None
    weaker: Callable[[Variables], Callable[..., jax.Array]] | None = None
    alone: bool = True


class Generator(NamedTuple):
    """Map noise to codes and codes to rows: each of L layers reads a code of its own; L = 1 without styles.

    Attributes:
      draw: (variables, keys_B, prompt) -> (codes (B, L, W), {label: B}). The L codes of a draw are equal.
        Labels that the prompt does not have are random.
      mean: variables -> (W,), the code that truncation moves others towards.
      expected: (variables, codes, given) -> {target: float32}, in the units of the data, neither rounded nor
        clipped; differentiable in the codes. `given` has the labels. Nothing random is added.
      kernels: variables -> for each of the L codes the kernel (W, N) of the affine maps that read it.
    """

    draw: Callable[..., tuple[jax.Array, Batch]]
    mean: Callable[[Variables], jax.Array]
    expected: Callable[..., Batch]
    kernels: Callable[[Variables], list[jax.Array]]


class Model(NamedTuple):
    """Define a generative model (or a classifier, which has no sampler): functions over Variables.

    Attributes:
      init: (key, batch, frozen) -> Variables; must run under jax.eval_shape.
      phases: in order; a later phase sees what the earlier ones have updated.
      carry: batch -> the zero carry of these rows.
      fit: (variables, batch, keys) -> variables whose `state` is fitted on this batch of real training
        rows. Called once, before the first step (a latent scale, a k-means codebook, ActNorm); the
        result is saved. None if nothing is fitted.
      finish: variables -> variables before use, evaluation in training included (sort counts, refit
        statistics); never saved.
      sample: (variables, keys_B, prompt, **options) -> batch with the data's targets, one row per key.
        `prompt` is a batch-first dict of the conditions ({"label": B}, {"source": BxS, ...}) or of a
        beginning to continue ({"tokens": BxP}), or {}.
      mask: the token that stands for a gap in a beginning to continue, which `sample` fills, too; None if it
        fills no gaps.
      deterministic: samples are a function of the prompt alone (translation, super-resolution by regression).
      likelihood: (variables, batch, keys, **options) -> (Mean per row: total nats, count of units; carry).
        Options are static.
      likelihood_kind: "exact", "bound" (an upper bound of the nats), "density" (of real-valued data: not
        comparable with the others), "conditional" (of a part of a row given the rest: spans that were
        dropped from it) or "codes" (of the codes of a frozen codec). Scores of different kinds never
        share a column.
      rate_distortion: (variables, batch, keys) -> (rate, distortion), KL(q || p) and -log p(x | z): Means per
        row like that of the likelihood, whose sum is the bound of one draw of the latent variables z. None
        if the model has none.
      predict: (variables, batch) -> {"logits", "features", ...}; of images, also "maps", the activations
        (B, h, w, F) of several layers.
      learning_rate_multipliers: (player, params) -> a tree like params of factors on Adam's learning
        rate (as a parametrisation such as muP requires); None for 1 everywhere.
    """

    init: Callable[..., Variables]
    phases: dict[str, Phase]
    carry: Callable[[Batch], Tree] = lambda batch: {}
    fit: Callable[[Variables, Batch, Keys], Variables] | None = None
    finish: Callable[[Variables], Variables] = lambda variables: variables
    sample: Callable[..., Batch] | None = None
    mask: int | None = None
    deterministic: bool = False
    likelihood: Callable[..., tuple[Mean, Tree]] | None = None
    likelihood_kind: str = "exact"
    rate_distortion: Callable[..., tuple[Mean, Mean]] | None = None
    predict: Callable[..., dict[str, Any]] | None = None
    decoder: Decoder | None = None
    codec: Codec | None = None
    denoiser: Denoiser | None = None
    generator: Generator | None = None
    learning_rate_multipliers: Callable[[str, Tree], Tree] | None = None

    @property
    def players(self) -> tuple[str, ...]:
        """The players whose parameters are learned by gradient, sorted."""
        return tuple(sorted({phase.player for phase in self.phases.values()}))

    def replace(self, **changes: Any) -> Model:
        """Return this model with some of its functions changed (composition)."""
        return self._replace(**changes)


def across(x: Tree, reduce: Callable = jax.lax.psum) -> Tree:
    """Reduce `x` over the global batch: identity under jit, the collective where AXIS is mapped."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:
        return x
    return jax.tree.map(lambda leaf: reduce(leaf, AXIS), x)


def gathered(x: Tree) -> Tree:
    """Return `x` with the rows of the global batch: itself under jit, those of all devices under pmap."""
    return across(x, lambda leaf, axis: jax.lax.all_gather(leaf, axis, tiled=True))


def own(x: Tree, rows: int) -> Tree:
    """Return the `rows` rows of this device from what `gathered` returned."""
    try:
        first = jax.lax.axis_index(AXIS) * rows
    except NameError:
        return x
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, rows), x)


def row_keys(root: jax.Array, stream: jax.Array | int, rows: jax.Array) -> Keys:
    """Derive one key per global row: fold_in(fold_in(root, stream), row).

    `stream` is the step, or a constant. No key is ever stored: a resumed run draws what the
    uninterrupted one would have drawn.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(root, stream), rows)
