"""Compile the pure step and place its inputs: jit over a (data, fsdp, tensor) mesh, or pmap.

Both run the same function on the same state. Under pmap the carry alone has a leading device axis, which
`canonical` removes: checkpoints of the two engines are alike.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from genjax.core import AXIS, Batch, Mean, Model, Variables
from genjax.errors import ConfigError
from genjax.training import distributed, initial, sharding, step
from genjax.training.cache import compilations
from genjax.training.config import Config
from genjax.training.packed import pack, unpack
from genjax.training.posthoc import exponent_of
from genjax.training.step import Average, Phases, TrainState
from genjax.training.trees import named

__all__ = ["Engine", "compilations"]
Form = tuple[tuple[str, tuple[int, ...]], ...]
"""The names and shapes of a batch's leaves: rows of several lengths come in batches of several forms."""
STREAMS = 4
"""Streams of random keys: parameters, training noise, evaluation noise, fitting."""
_AS_IT_IS = Model._field_defaults["finish"]
"""The default of `Model.finish`: compiling it would only copy the variables."""


class Engine:
    """Run one model's training steps and evaluation on the devices of a run.

    Attributes:
      mesh: the device mesh.
      share: (index, count), the part of a batch's rows that this process reads.
      batch: rows of the global batch.
      form: the TrainState's shapes and dtypes, as a checkpoint has them.
      layout: the TrainState's shardings, as a checkpoint is restored to them.
      frozen: finished stages, placed; an argument of every step.
      line: of a run that is limited by seconds: how far its schedule is (`pace.Pace.arguments`); an
        argument of every step.
    """

    def __init__(
        self,
        model: Model,
        optimizers: Mapping[str, optax.GradientTransformation],
        config: Config,
        example: Batch,
        *,
        frozen: Mapping[str, Variables] | None = None,
        seed: int = 0,
        devices: Sequence[Any] | None = None,
    ):
        """Build the mesh and the layout; nothing is compiled.

        Args:
          example: this process's rows of a batch (arrays or shapes), which give the global shapes.
          frozen: finished stages, on the host or on devices.
          seed: of all random numbers; each use folds in a stream, a step and a row.
          devices: all of them if None.

        Raises:
          ConfigError: the mesh does not fit the devices, the batch cannot be divided, or
            `freeze` matches nothing.
        """
        self.model = model
        self.config = config
        self.devices = list(devices or jax.devices())
        self.pmap = config.engine == "pmap"
        self.mesh = _mesh(config, self.devices)
        self.share = sharding.share(self.mesh)
        self.example = {
            k: jax.ShapeDtypeStruct((x.shape[0] * self.share[1], *x.shape[1:]), x.dtype)
            for k, x in example.items()
        }
        self.batch = self.example["mask"].shape[0]
        self.ways = math.prod(self.mesh.shape[a] for a in sharding.ROWS if a in self.mesh.shape)
        if self.batch % (self.ways * config.accumulate):
            raise ConfigError(
                f"a batch of {self.batch} rows cannot be divided over {self.ways} devices "
                f"and {config.accumulate} micro-batches",
                f"make data.batch a multiple of {self.ways * config.accumulate}",
            )
        self._averages = {
            name: Average(
                a.players or model.players,
                a.half_life,
                a.ramp_up,
                None if a.sigma_rel is None else exponent_of(a.sigma_rel),
            )
            for name, a in config.averages.items()
        }
        self._optimizers = dict(optimizers)
        how: dict[str, Any] = {"accumulate": config.accumulate, "freeze": config.freeze}
        self._step = step.make_step(model, optimizers, averages=self._averages, **how)
        self._whole = NamedSharding(self.mesh, PartitionSpec())
        rows = tuple(a for a in sharding.ROWS if a in self.mesh.shape)
        self._rows = NamedSharding(self.mesh, PartitionSpec(rows))
        self._stacked = NamedSharding(self.mesh, PartitionSpec(None, rows))
        # Emulated CPU devices share one thread pool: two programs in flight whose collectives wait for each
        # other's threads would deadlock.
        self._one_at_a_time = self.devices[0].platform == "cpu" and len(self.devices) > 1
        self._keys = _keys(seed, self._whole)
        self._check_frozen(frozen)
        layout = sharding.shardings({"frozen": dict(frozen or {})}, config.sharding, self.mesh)
        self.frozen = sharding.spread({"frozen": dict(frozen or {})}, layout)["frozen"]
        with self._meshed():
            self.form: TrainState = jax.eval_shape(self._create, self._keys[0], self.frozen)
        step.check_freeze(self.form.variables.params, config.freeze)
        self.layout: TrainState = sharding.shardings(self.form, config.sharding, self.mesh)
        self.line: Mapping[str, np.ndarray] = {}
        self._calls: dict[tuple[tuple[Phases, ...], Form], Callable] = {}
        self._metrics: dict[tuple[Phases, ...], dict[str, Any]] = {}
        self._evaluate: Callable | None = None
        self._finish: Callable | None = None
        self._finite: Callable | None = None

    # --- state -------------------------------------------------------------------------------------

    def create(self) -> TrainState:
        """Create the state before the first step, sharded from birth: no leaf is ever whole on one device."""
        with self._meshed():
            # It runs once: on a CPU, compiling many random draws well takes longer than a hundred steps.
            options = {"xla_backend_optimization_level": 0} if self.devices[0].platform == "cpu" else None
            create = jax.jit(self._create, out_shardings=self.layout, compiler_options=options)
            state = create(self._keys[0], self.frozen)
        return self.adopt(state)

    def start(self, rows: Batch, given: Variables | None = None) -> TrainState:
        """Create the state that step 1 starts from: initialised, copied from another run, and fitted.

        Args:
          rows: this process's rows of a batch of training rows, for `Model.fit`.
          given: the variables of another run; `config.init_match` chooses the leaves that are copied.

        Raises:
          ConfigError: a leaf that should be copied is missing or has another shape.
        """
        state = self.create()
        copied = initial.chosen(self.form.variables, given, self.config.init_match) if given else {}
        state = self._copied(state, copied)
        if self.model.fit is not None:
            state = self._fitted(state, rows)
            # Copied once more: state of the other run takes precedence over fitted state.
            state = self._copied(state, {p: x for p, x in copied.items() if p.startswith("state/")})
        return state

    def canonical(self, state: TrainState) -> TrainState:
        """Return the state as a checkpoint has it: the carry is batch-first under both engines."""
        if not self.pmap or not jax.tree.leaves(state.carry):
            return state
        join = jax.jit(
            lambda c: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), c), out_shardings=self.layout.carry
        )
        return state.replace(carry=join(state.carry))

    def adopt(self, state: TrainState) -> TrainState:
        """Return the state as this engine steps it: the inverse of `canonical`."""
        if not self.pmap or not jax.tree.leaves(state.carry):
            return state
        split = jax.jit(
            lambda c: jax.tree.map(lambda x: x.reshape(self.ways, -1, *x.shape[1:]), c),
            out_shardings=self._rows,
        )
        return state.replace(carry=split(state.carry))

    def nonfinite(self, state: TrainState) -> str | None:
        """Return the path of the first NaN or infinite leaf of parameters, averages and optimizer state."""
        trees = {"params": state.variables.params, "ema": state.variables.ema, "opt": state.opt}
        leaves = {k: x for k, x in named(trees).items() if jnp.issubdtype(x.dtype, jnp.inexact)}
        if not leaves:
            return None
        if self._finite is None:
            self._finite = jax.jit(
                lambda xs: jnp.stack([jnp.isfinite(x).all() for x in xs]), out_shardings=self._whole
            )
        bad = np.flatnonzero(~np.asarray(self._finite(list(leaves.values()))))
        return list(leaves)[bad[0]] if len(bad) else None

    # --- steps -------------------------------------------------------------------------------------

    @property
    def programs(self) -> int:
        """Step programs compiled so far: one for each distinct sequence of due phases and batch form."""
        return len(self._calls)

    def compiles(self, batch: Batch, phases: tuple[Phases, ...]) -> bool:
        """Return True if `step` will compile a program for this batch."""
        return _key(batch, phases) not in self._calls

    def put(self, batches: Sequence[Mapping[str, np.ndarray]]) -> Batch:
        """Place this process's rows of one batch, or of the batches of one call, on the devices."""
        if len(batches) == 1:
            rows = dict(batches[0])
            if self.pmap:
                rows = jax.tree.map(lambda x: x.reshape(self._local, -1, *x.shape[1:]), rows)
            elif len(self.devices) == 1 and self.devices[0].platform == "cpu":
                return rows  # already in the device's memory: placing it would only cost the host's time
            return sharding.place(rows, self._rows)
        rows = jax.tree.map(lambda *x: np.stack(x), *(dict(b) for b in batches))
        if self.pmap:
            rows = jax.tree.map(
                lambda x: x.reshape(len(x), self._local, -1, *x.shape[2:]).swapaxes(0, 1), rows
            )
        return sharding.place(rows, self._rows if self.pmap else self._stacked)

    def step(
        self, state: TrainState, batch: Batch, phases: tuple[Phases, ...]
    ) -> tuple[TrainState, jax.Array]:
        """Take len(phases) steps in one call, which donates `state`. Return before they are finished.

        Returns:
          (the next state, the metrics packed into one array for `read`, to be fetched in one transfer).
        """
        key = _key(batch, phases)
        if key not in self._calls:
            self._calls[key] = self._compile(phases)
        with self._meshed():
            state, packed = self._calls[key](state, self.frozen, batch, self._keys[1], dict(self.line))
        if self._one_at_a_time:
            jax.block_until_ready(packed)
        return state, packed

    def read(self, packed: np.ndarray, phases: tuple[Phases, ...]) -> list[dict[str, Mean]]:
        """Return the metrics of each step of a call, on the host in float64."""
        return unpack(packed, self._metrics[phases])

    # --- evaluation --------------------------------------------------------------------------------

    def variables(self, state: TrainState, average: str | None = None) -> Variables:
        """Return the variables for evaluation and sampling: at an average, with the frozen stages."""
        return state.variables.replace(frozen=self.frozen).at(average)

    def metric_names(self) -> list[str]:
        """Return the names of the metrics of an evaluation; traces it and compiles nothing."""
        with self._meshed():
            means = jax.eval_shape(
                self._evaluation(),
                self.form.variables.replace(ema={}, frozen=self.frozen),
                self.example,
                self._keys[2],
                jax.ShapeDtypeStruct((), jnp.int32),
            )
        return list(means)

    def evaluate(self, variables: Variables, batches: Any, offset: int = 0) -> dict[str, Mean]:
        """Compute the loss and metrics of every phase over these host batches, named phase/metric.

        Objectives get step=None, and carries start at zero. `Model.finish` is applied to the variables
        first. The noise of a row depends only on its index in the split.

        Args:
          batches: of this process's rows.
          offset: index in the split of the first row.
        """
        variables = variables.replace(ema={})
        if self._evaluate is None:
            self._evaluate = jax.jit(self._evaluation(), out_shardings=self._whole)
            self._finish = None if self.model.finish is _AS_IT_IS else jax.jit(self.model.finish)
        if self._finish is not None:
            with self._meshed():
                variables = self._finish(variables)
        total = None
        for rows in batches:
            batch = sharding.place(dict(rows), self._rows)
            first = sharding.spread(np.int32(offset), self._whole)
            with self._meshed():
                means = self._evaluate(variables, batch, self._keys[2], first)
            offset += batch["mask"].shape[0]
            # Sum on the host in float64, so that the number of batches does not show in the last digits.
            means = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(means))
            total = means if total is None else jax.tree.map(np.add, total, means)
        return total or {}

    # --- programs ----------------------------------------------------------------------------------

    @property
    def _local(self) -> int:
        return sum(d.process_index == distributed.index() for d in self.devices)

    def _copied(self, state: TrainState, leaves: Mapping[str, Any]) -> TrainState:
        """Return the state with these leaves of its variables; the averages start from its parameters."""
        if not leaves:
            return state
        places = {p: s for p, s in named(self.layout.variables).items() if p in leaves}
        variables = initial.replaced(state.variables, sharding.spread(dict(leaves), places))
        start = jax.jit(
            lambda params: step.start_averages(params, self._averages),
            out_shardings=self.layout.variables.ema,
        )
        return state.replace(variables=variables.replace(ema=start(variables.params)))

    def _fitted(self, state: TrainState, rows: Batch) -> TrainState:
        """Return the state with `variables.state` fitted on these training rows."""

        def call(variables: Variables, frozen: Any, batch: Batch, root: jax.Array) -> Variables:
            with self._named_axes():
                return initial.fitted(self.model, variables, frozen, batch, root)

        batch = sharding.place(dict(rows), self._rows)
        with self._meshed():
            fitted = jax.jit(call, out_shardings=self.layout.variables)(
                state.variables, self.frozen, batch, self._keys[3]
            )
        return state.replace(variables=fitted)

    def _create(self, key: jax.Array, frozen: dict[str, Variables]) -> TrainState:
        example = {k: jnp.zeros(x.shape, x.dtype) for k, x in self.example.items()}
        example["mask"] = jnp.ones(self.batch, jnp.float32)
        with self._named_axes():
            return step.create(self.model, self._optimizers, key, example, frozen, self._averages)

    def _compile(self, phases: tuple[Phases, ...]) -> Callable:
        one = len(phases) == 1
        inner = self._step if one else step.many(self._step)
        static: Any = phases[0] if one else phases

        def call(state: TrainState, frozen: Any, batch: Batch, root: jax.Array, line: Any):
            with self._named_axes():
                state, metrics = inner(state, frozen, batch, root, static, line)
            packed, self._metrics[phases] = pack(metrics, len(phases))
            return state, packed

        if self.pmap:
            axes: Any = TrainState(None, None, None, 0)  # type: ignore[arg-type]
            return jax.pmap(
                call,
                axis_name=AXIS,
                in_axes=(axes, None, 0, None, None),
                out_axes=(axes, None),
                donate_argnums=0,
                devices=self.devices,
            )
        return jax.jit(call, donate_argnums=0, out_shardings=(self.layout, self._whole))

    def _evaluation(self) -> Callable:
        """Return (variables, batch, root key, first row) -> every phase's loss and metrics."""
        objectives = step.make_objectives(self.model)

        def call(variables: Variables, batch: Batch, root: jax.Array, first: jax.Array) -> dict[str, Mean]:
            with self._named_axes():
                return objectives(variables, batch, root, first)

        return call

    def _named_axes(self) -> contextlib.AbstractContextManager:
        """Give the layers' logical axes their mesh axes while a program is traced (none under pmap)."""
        alone = self.pmap or len(self.devices) == 1
        return contextlib.nullcontext() if alone else nn.logical_axis_rules(self.config.logical)

    def _meshed(self) -> contextlib.AbstractContextManager:
        """Set the mesh around the call of a program with named axes; inside the program it is too late."""
        alone = self.pmap or len(self.devices) == 1
        return contextlib.nullcontext() if alone else jax.set_mesh(self.mesh)

    @staticmethod
    def _check_frozen(frozen: Mapping[str, Variables] | None) -> None:
        for stage, variables in (frozen or {}).items():
            if not isinstance(variables, Variables):
                raise TypeError(f"frozen[{stage!r}] is {type(variables).__name__}, not Variables")


def _key(batch: Batch, phases: tuple[Phases, ...]) -> tuple[tuple[Phases, ...], Form]:
    """Return what a compiled step depends on: the phases that are due and the form of the batch."""
    return phases, tuple((k, x.shape) for k, x in batch.items())


def _mesh(config: Config, devices: Sequence[Any]) -> jax.sharding.Mesh:
    """Return the device mesh of an engine.

    Raises:
      ConfigError: the mesh does not fit the devices, or the engine is pmap in a run of several processes.
    """
    mesh = sharding.make_mesh(config.mesh, devices)
    if config.engine != "pmap":
        return mesh
    if distributed.count() > 1:
        raise ConfigError("train.engine='pmap' trains in one process", "set train.engine='jit'")
    # The outputs of pmap have this mesh.
    return jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def _keys(seed: int, whole: NamedSharding) -> list[jax.Array]:
    """Return the root key of each stream on all devices.

    Placed by jit: device_put of a value to devices of several processes first compares it between them.
    """

    def make() -> list[jax.Array]:
        key = jax.random.key(seed)
        return [jax.random.fold_in(key, n) for n in range(STREAMS)]

    return jax.jit(make, out_shardings=whole)()
