"""Define the training step: any number of players, any family, any engine.

`make_step` returns a pure function that training/engine.py compiles with jit over a mesh or with pmap.
It is the same for all families: what differs between them is in their `phases`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from genjax.core import Batch, Keys, Mean, Model, Phase, Tree, Variables, across, row_keys
from genjax.errors import ConfigError
from genjax.training import pace
from genjax.training.trees import name as path_name
from genjax.training.trees import named

Metrics = dict[str, Mean]
Phases = tuple[str, ...]


@struct.dataclass
class TrainState:
    """Hold exactly what a checkpoint holds.

    Attributes:
      step: int32, steps taken.
      variables: with `frozen` empty: frozen stages are an argument of the step.
      opt: {player: optax state}.
      carry: batch-first; what the last batch left behind for the next of the same rows.
    """

    step: jax.Array
    variables: Variables
    opt: dict[str, Any]
    carry: Tree

    def replace(self, **changes: Any) -> TrainState:  # narrows the generated method's type
        return dataclasses.replace(self, **changes)


class Average(NamedTuple):
    """Describe an exponential moving average of some players' parameters.

    Attributes:
      players: whose parameters.
      half_life: in examples, so that it means the same at every batch size.
      ramp_up: the half-life is at most this fraction of the examples seen so far (Karras et al. 2022,
        arXiv:2206.00364, their EMA warm-up); None for no ramp-up.
      exponent: weigh the parameters of step t by t^exponent, in place of a half-life (Karras et al. 2024,
        arXiv:2312.02696, eq. 2); None for a half-life.
    """

    players: tuple[str, ...]
    half_life: float
    ramp_up: float | None = 0.05
    exponent: float | None = None

    def decay(self, step: jax.Array, batch: int) -> jax.Array:
        """Return the weight of the old average at this step (int32) of `batch` examples."""
        if self.exponent is not None:
            past = step.astype(jnp.float32)
            return (past / (past + 1.0)) ** (self.exponent + 1.0)
        half_life = jnp.asarray(self.half_life, jnp.float32)
        if self.ramp_up is not None:
            half_life = jnp.minimum(half_life, self.ramp_up * (step.astype(jnp.float32) + 1) * batch)
        return jnp.where(half_life > 0, 0.5 ** (batch / jnp.maximum(half_life, 1e-8)), 0.0)


def create(
    model: Model,
    optimizers: Mapping[str, optax.GradientTransformation],
    key: jax.Array,
    batch: Batch,
    frozen: Mapping[str, Variables] | None = None,
    averages: Mapping[str, Average] | None = None,
) -> TrainState:
    """Create the state before the first step. Runs under jax.eval_shape and under jit with out_shardings."""
    variables = model.init(key, batch, dict(frozen or {}))
    variables = variables.replace(frozen={}, ema=start_averages(variables.params, averages or {}))
    opt = {p: optimizers[p].init(params) for p, params in variables.params.items()}
    return TrainState(jnp.zeros((), jnp.int32), variables, opt, model.carry(batch))


def start_averages(params: Mapping[str, Tree], averages: Mapping[str, Average]) -> dict[str, dict[str, Tree]]:
    """Return the averages before the first step: copies of the parameters."""
    # A copy: an average that shared its buffer with the parameters would be donated twice.
    return {
        name: {p: jax.tree.map(jnp.copy, params[p]) for p in average.players}
        for name, average in averages.items()
    }


def held(params: Tree, player: str, freeze: str | None) -> Tree:
    """Return a tree like a player's params: True at each leaf whose path `freeze` is found in."""

    def one(path: Any, _: Any) -> bool:
        return freeze is not None and re.search(freeze, f"{player}/{path_name(path)}") is not None

    return jax.tree_util.tree_map_with_path(one, params)


def check_freeze(params: Mapping[str, Tree], freeze: str | None) -> None:
    """Raise ConfigError if `freeze` is found in the path of no parameter."""
    paths = list(named(params))
    if freeze is not None and not any(re.search(freeze, path) for path in paths):
        raise ConfigError(
            f"train.freeze={freeze!r} matches no parameter",
            f"a parameter path is, e.g.: {paths[0]}" if paths else "this model has no parameters",
        )


def due(model: Model, step: int) -> Phases:
    """Return the phases that are due at this step. Static: each distinct tuple is a program of its own."""
    return tuple(name for name, phase in model.phases.items() if step % phase.interval == 0)


def gradient(
    phase: Phase,
    variables: Variables,
    batch: Batch,
    keys: Keys,
    step: jax.Array,
    accumulate: int = 1,
    freeze: str | None = None,
) -> tuple[Tree, Tree, Metrics, Tree]:
    """Compute the gradient of one phase's mean loss over the global batch.

    Args:
      accumulate: number of micro-batches; each takes every accumulate-th row, so that rows stay on their
        device.
      freeze: regex of the parameters whose gradient is zero, and is not computed.

    Returns:
      (gradient like params[player], next state, metrics with "loss", carry).
    """
    params = variables.params[phase.player]
    frozen = held(params, phase.player, freeze)

    def total(p: Tree, state: Tree, rows: Batch, keys: Keys):
        # Inside the differentiated function, so that XLA drops the backward pass that only these need.
        p = jax.tree.map(lambda x, keep: jax.lax.stop_gradient(x) if keep else x, p, frozen)
        w = variables.replace(params={**variables.params, phase.player: p}, state=state)
        loss, aux = phase.objective(w, rows, keys, step=step)
        return loss.total.astype(jnp.float32), (aux.state, {"loss": loss, **aux.metrics}, aux.carry)

    grad = jax.grad(total, has_aux=True)
    if accumulate == 1:
        g, (state, means, carry) = grad(params, variables.state, batch, keys)
    else:

        def micro(summed, rows):
            g, (state, means, carry) = grad(params, summed[1], *rows)
            return (jax.tree.map(jnp.add, summed[0], g), state), (means, carry)

        start = (jax.tree.map(jnp.zeros_like, params), variables.state)
        rows = jax.tree.map(lambda x: _split(x, accumulate), (batch, keys))
        (g, state), (means, carry) = jax.lax.scan(micro, start, rows)
        means = jax.tree.map(lambda x: x.sum(0), means)
        carry = jax.tree.map(_join, carry)
    g, means = across((g, means))
    # Totals are divided once, by the global count: means of shards or micro-batches would weigh
    # ragged rows wrongly.
    count = jnp.maximum(means["loss"].count, 1)
    return jax.tree.map(lambda x: x / count.astype(x.dtype), g), state, means, carry


def _split(x: jax.Array, parts: int) -> jax.Array:
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def _join(x: jax.Array) -> jax.Array:
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])


StepFn = Callable[..., tuple[TrainState, Metrics]]


def make_step(
    model: Model,
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    averages: Mapping[str, Average] | None = None,
    accumulate: int = 1,
    freeze: str | None = None,
) -> StepFn:
    """Build the pure step: (state, frozen, batch, root key, phases, line) -> (state, metrics).

    For each phase that is due, in order: compute the gradient with respect to its player's parameters,
    apply that player's optax update, and pass the next state on to the following phase. Then update the
    averages. `phases` is static. Metrics are named phase/metric. Parameters that `freeze` matches, and
    their averages, keep every bit. `line` is empty, or for a run that is limited by seconds the arguments of
    `pace.progress`, which its optimizers need.
    """
    averages = dict(averages or {})
    transforms = {p: optax.with_extra_args_support(t) for p, t in optimizers.items()}

    def step(
        s: TrainState,
        frozen: dict[str, Variables],
        batch: Batch,
        root: jax.Array,
        phases: Phases,
        line: Mapping[str, jax.Array] = {},
    ) -> tuple[TrainState, Metrics]:
        past = {"progress": pace.progress(line, s.step)} if line else {}
        v = s.variables.replace(frozen=frozen)
        opt = dict(s.opt)
        carry = s.carry
        metrics: Metrics = {}
        rows = jnp.arange(batch["mask"].shape[0])
        # Under pmap each device has its own block of rows; elsewhere the second term is zero.
        rows = rows + across(0 * rows[:1], lambda _, axis: jax.lax.axis_index(axis)) * len(rows)
        keys = row_keys(root, s.step, rows)
        for name in phases:
            phase = model.phases[name]
            params = v.params[phase.player]
            rows_and_carry = {**batch, "carry": s.carry}
            g, state, means, new = gradient(phase, v, rows_and_carry, keys, s.step, accumulate, freeze)
            update, opt[phase.player] = transforms[phase.player].update(g, opt[phase.player], params, **past)
            params = _keep(optax.apply_updates(params, update), params, phase.player, freeze)
            v = v.replace(params={**v.params, phase.player: params}, state=state)
            carry = new or carry
            metrics |= {f"{name}/{k}": m for k, m in means.items()}
            metrics[f"{name}/grad_norm"] = Mean(optax.tree.norm(g), jnp.ones(()))
        examples = len(rows) * across(jnp.ones((), jnp.int32))
        ema = {n: _average(a, v, v.ema[n], s.step, examples, freeze) for n, a in averages.items()}
        return TrainState(s.step + 1, v.replace(ema=ema, frozen={}), opt, carry), metrics

    return step


def make_objectives(model: Model) -> Callable[..., Metrics]:
    """Build the pure evaluation: (variables, batch, root key, first row) -> metrics, named phase/metric.

    Row n of the batch is row `first + n` of the split, which its noise is a function of.
    """

    def objectives(variables: Variables, batch: Batch, root: jax.Array, first: jax.Array) -> Metrics:
        keys = row_keys(root, 0, first + jnp.arange(batch["mask"].shape[0]))
        batch = {**batch, "carry": model.carry(batch)}
        out: Metrics = {}
        for name, phase in model.phases.items():
            if not phase.evaluated:
                continue
            loss, aux = phase.objective(variables, batch, keys, step=None)
            means = {"loss": loss, **aux.metrics}
            out |= {f"{name}/{k}": m for k, m in means.items()}
        return out

    return objectives


def _keep(new: Tree, old: Tree, player: str, freeze: str | None) -> Tree:
    """Return `new`, with the leaves of `old` that `freeze` matches: adding a zero could change a bit (-0)."""
    return jax.tree.map(lambda n, o, keep: o if keep else n, new, old, held(old, player, freeze))


def _average(
    average: Average, v: Variables, old: Tree, step: jax.Array, examples: jax.Array, freeze: str | None
) -> Tree:
    d = average.decay(step, examples)  # type: ignore[arg-type]
    new = {p: v.params[p] for p in average.players}
    mixed = jax.tree.map(lambda e, p: (d * e + (1 - d) * p).astype(e.dtype), old, new)
    return {p: _keep(mixed[p], old[p], p, freeze) for p in average.players}


def many(step: StepFn) -> StepFn:
    """Build k steps in one call: batch leaves gain a leading axis k, and `phases` is a tuple of k tuples.

    The shortest cycle of phases that repeats is unrolled, and its repetitions are a scan, so that the size
    of the program grows with the cycle and not with k. Metrics are stacked.
    """

    def unrolled(
        s: TrainState, frozen: Any, batch: Batch, root: jax.Array, phases: Sequence[Phases], line: Any
    ):
        rows = []
        for i, due_now in enumerate(phases):
            s, metrics = step(s, frozen, jax.tree.map(lambda x, i=i: x[i], batch), root, due_now, line)
            rows.append(metrics)
        # All steps must have the same metrics: those of a phase that is not due count nothing.
        names = {n: m for metrics in rows for n, m in metrics.items()}
        zero = {n: jax.tree.map(jnp.zeros_like, m) for n, m in names.items()}
        return s, jax.tree.map(lambda *x: jnp.stack(x), *({**zero, **metrics} for metrics in rows))

    def steps(
        s: TrainState, frozen: Any, batch: Batch, root: jax.Array, phases: Sequence[Phases], line: Any = None
    ):
        line = line or {}
        length = _cycle(phases)
        if length == len(phases) > 1:
            return unrolled(s, frozen, batch, root, phases, line)
        if length == 1:
            return jax.lax.scan(lambda s, b: step(s, frozen, b, root, phases[0], line), s, batch)
        # (k, ...) -> (repetitions, steps of a cycle, ...), and back for the metrics.
        cycles = jax.tree.map(lambda x: x.reshape(-1, length, *x.shape[1:]), batch)
        body = lambda s, b: unrolled(s, frozen, b, root, phases[:length], line)
        s, metrics = jax.lax.scan(body, s, cycles)
        return s, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), metrics)

    return steps


def _cycle(phases: Sequence[Phases]) -> int:
    """Return the length of the shortest cycle that, repeated, gives `phases`."""
    total = len(phases)
    lengths = (n for n in range(1, total + 1) if total % n == 0)
    return next(n for n in lengths if all(p == phases[i % n] for i, p in enumerate(phases)))
