"""The one training loop: any model, any dataset, resumed wherever the run directory left off."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from genjax.core import Model, Variables
from genjax.errors import CheckpointError, ConfigError, Interrupted, NonFiniteError
from genjax.training import optimizers, run_lock, step
from genjax.training.cache import cache_compilations
from genjax.training.checkpoint import Checkpoints
from genjax.training.config import Config
from genjax.training.engine import Engine
from genjax.training.logbook import Logbook, Progress, Window, values

PREFETCH = 2  # batches on the devices ahead of the step
IN_FLIGHT = 8  # calls that are dispatched and not finished: more would only hold memory
log = logging.getLogger("genjax")


class Hooks(NamedTuple):
    """What a run adds to the loop. `variables` must not be kept: the next step donates them.

    Attributes:
      on_eval: (variables, step) -> {name: value}, added to the evaluation's line.
      on_sample: (variables, step), at `sample_every` and at the end.
    """

    on_eval: Callable[[Variables, int], Mapping[str, float]] | None = None
    on_sample: Callable[[Variables, int], None] | None = None


class Result(NamedTuple):
    """A finished training.

    Attributes:
      step: steps taken in all.
      variables: with averages, and frozen stages.
      metrics: of the last evaluation, {"phase/metric" or "phase/metric@average": value}.
      seconds: spent training in all sittings; evaluation and sampling left out.
      skipped: numbers of the batches that were left out.
    """

    step: int
    variables: Variables
    metrics: dict[str, Any]
    seconds: float
    skipped: tuple[int, ...]


class _NonFinite(Exception):
    """The step (counted from 0) and what of it is not finite."""

    def __init__(self, at: int, what: str):
        super().__init__(f"{what} at step {at}")
        self.at, self.what = at, what


def train(
    model: Model,
    dataset: Any,
    config: Config,
    optimizer: Mapping[str, optimizers.Config],
    *,
    directory: Path | str,
    batch: int,
    eval_batch: int | None = None,
    order: str = "shuffled",
    seed: int = 0,
    data_seed: int | None = None,
    identity: Mapping[str, Any] | None = None,
    frozen: Mapping[str, Variables] | None = None,
    hooks: Hooks = Hooks(),
    devices: Sequence[Any] | None = None,
) -> Result:
    """Trains to `config.steps`, going on from the newest checkpoint in `directory` where there is one.

    Step n reads batch n of dataset.train.stream(order, batch, seed), the skipped ones left out; all
    noise is a function of (seed, step, row). A run that was killed and resumed therefore equals one that
    was not, bit for bit, on the same devices.

    Args:
      optimizer: {player: its optimizer}.
      directory: of the run; made where it is missing.
      batch: rows of the global batch; eval_batch: of an evaluation batch (`batch` where it is None).
      seed: of parameters and noise; data_seed: of the order of the data (`seed` where it is None).
      identity: plain data that a checkpoint must share to be resumed: the model's name and config, the
        digests of frozen stages. The data's fingerprint, seed, batch and order are added.
      frozen: finished stages; never written.
      devices: all of them where it is None.

    Raises:
      ConfigError: batch, mesh, sharding or schedule do not fit.
      CheckpointError: a save failed, or the checkpoint belongs to another model or other data.
      NonFiniteError: a loss, gradient or parameter is NaN or infinite; nothing of it was saved.
      BusyError: another process is training in this directory.
      Interrupted: SIGTERM or SIGINT came; the run has saved.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be made: {error}", "choose another directory") from error
    if config.compilation_cache:
        cache_compilations()
    data = {"order": order, "batch": batch, "seed": seed if data_seed is None else data_seed}
    own = {
        "data": {"fingerprint": dataset.fingerprint, **data},
        "seed": seed,
        "accumulate": config.accumulate,
    }
    whose: dict[str, Any] = json.loads(json.dumps({**own, **(identity or {})}, default=str))
    chief = jax.process_index() == 0
    with run_lock.exclusive(directory, hold=chief), run_lock.Stop() as stop:
        run = _Run(model, dataset, config, optimizer, directory, data, eval_batch or batch, whose, hooks)
        run.open(seed, frozen, devices)
        try:
            return run(stop)
        except OSError as error:  # the logs: checkpoints raise their own
            raise CheckpointError(
                f"{directory} cannot be written: {error}", "make room, and run again"
            ) from error
        finally:
            run.close()


class _Run:
    """One sitting. `step` counts the steps dispatched; `pending` has the metrics that were not yet read."""

    def __init__(
        self,
        model: Model,
        dataset: Any,
        config: Config,
        optimizer: Mapping[str, optimizers.Config],
        directory: Path,
        data: dict[str, Any],
        eval_batch: int,
        identity: dict[str, Any],
        hooks: Hooks,
    ):
        self.model, self.dataset, self.config, self.hooks = model, dataset, config, hooks
        self.directory, self.data, self.eval_batch, self.identity = directory, data, eval_batch, identity
        self.optimizer = {p: optimizer[p] for p in sorted({phase.player for phase in model.phases.values()})}
        self.skipped: list[int] = []
        self.pending: deque[tuple[int, Any, tuple[step.Phases, ...]]] = deque()
        self.window, self.metrics, self.best = Window(), {}, None
        self.step = self.saved = 0
        self.seconds, self.clock, self.logged = 0.0, None, (0.0, 0)
        self.progress = self.logbook = self.checkpoints = None

    # --- opening and closing -----------------------------------------------------------------------

    def open(self, seed: int, frozen: Any, devices: Any) -> None:
        phases, steps, every = self.model.phases.values(), self.config.steps, self.config.log_every
        ats = range(0, steps + 1, every) if every else ()
        transforms, self.rates = {}, {}
        for p, c in self.optimizer.items():
            own = [phase.interval for phase in phases if phase.player == p]
            total = max(optimizers.updates(own, steps), 1)
            transforms[p] = optimizers.make(c, total, optimizers.factors(self.model, p))
            self.rates[p] = optimizers.rates(c, total, [optimizers.updates(own, n) for n in ats])
        example = self._stream(0)[0]
        self.engine = Engine(
            self.model, transforms, self.config, example, frozen=frozen, seed=seed, devices=devices
        )
        if self.eval_batch % self.engine.ways:
            raise ConfigError(
                f"an evaluation batch of {self.eval_batch} rows cannot be divided "
                f"over {self.engine.ways} devices"
            )
        self.checkpoints = Checkpoints(self.directory, self.config.keep_last)
        self.state = self._restore()
        if jax.process_index() == 0:
            tensorboard, wandb = self.config.tensorboard, self.config.wandb
            self.logbook = Logbook(self.directory, tensorboard=tensorboard, wandb=wandb, step=self.step)
        show = self.config.progress and jax.process_index() == 0
        title, batch = self.directory.name, self.data["batch"]
        self.progress = Progress(title, self.config.steps, self.step, batch, show)

    def close(self) -> None:
        for thing in (self.progress, self.logbook):
            if thing is not None:
                thing.close()
        if self.checkpoints is not None:
            self.checkpoints.close()

    def _restore(self) -> step.TrainState:
        """The newest state that can be read, or the first; all that goes with it is set."""
        assert self.checkpoints is not None
        found = self.checkpoints.restore(self.engine.form, self.engine.layout, self.identity)
        record = found.record if found else {}
        self.step = self.saved = found.step if found else 0
        self.saved = self.step if found else -1
        self.skipped = sorted({*self.skipped, *record.get("skipped", [])})
        self.window, self.best = Window(record.get("window")), record.get("best_value")
        self.metrics = dict(record.get("metrics", {}))
        self.seconds = max(self.seconds, record.get("seconds", 0.0))
        self.logged, self.pending = (self.seconds, self.step), deque()
        return self.engine.adopt(found.state) if found else self.engine.create()

    # --- the loop ----------------------------------------------------------------------------------

    def __call__(self, stop: run_lock.Stop) -> Result:
        while True:
            try:
                self._sit(stop)
                break
            except _NonFinite as bad:
                self._step_back(bad)
        variables = self.engine.variables(self.state)
        return Result(self.step, variables, self.metrics, self.seconds, tuple(self.skipped))

    def _sit(self, stop: run_lock.Stop) -> None:
        assert self.checkpoints is not None
        tracing = False
        self.clock = time.perf_counter()
        for batch, phases in self._feed():
            tracing = self._trace(tracing)
            self.state, packed = self.engine.step(self.state, batch, phases)
            due = self.step if self._every(self.config.log_every, self.step) else None
            self.step += len(phases)
            self.pending.append((self.step, packed, phases))
            if due is not None:  # one step late: what is read has finished while this step was dispatched
                self._read(due)
            if len(self.pending) > IN_FLIGHT:
                jax.block_until_ready(self.pending[-IN_FLIGHT][1])
            if self.progress is not None:
                self.progress(self.step)
            self._events(end=self.step == self.config.steps)
            if self._stopping(stop):
                self._save()
                self.checkpoints.wait()
                raise Interrupted(
                    f"stopped by {stop.signal} after step {self.step}; the run has saved in {self.directory}",
                    "run the same command again to go on",
                )
        if tracing:
            jax.profiler.stop_trace()
        if self.saved != self.step:  # the data ended before the steps did
            self._events(end=True)
        self.checkpoints.wait()

    def _every(self, every: int, at: int) -> bool:
        return every > 0 and at > 0 and at % every == 0

    def _events(self, end: bool) -> None:
        """Evaluation, samples and checkpoint, where they are due; the checkpoint comes last of all."""
        c, n = self.config, self.step
        evaluate, sample = end or self._every(c.eval_every, n), end or self._every(c.sample_every, n)
        save = end or self._every(c.checkpoint_every, n)
        if not (evaluate or sample or save):
            return
        self._read(n)
        self._pause()
        better = evaluate and self._evaluate()
        if sample and self.hooks.on_sample is not None:
            self.hooks.on_sample(self.engine.variables(self.state), n)
        if save or better:
            self._save(best=better)
        self.clock = time.perf_counter()

    def _pause(self) -> None:
        """Adds the training time so far; what follows is not training."""
        if self.clock is not None:
            self.seconds += time.perf_counter() - self.clock
        self.clock = None

    def _stopping(self, stop: run_lock.Stop) -> bool:
        if jax.process_count() == 1:
            return stop.signal is not None
        if not self._every(max(self.config.log_every, 1), self.step):
            return False
        from jax.experimental import multihost_utils

        asked = multihost_utils.process_allgather(np.asarray(stop.signal is not None))
        return bool(np.any(asked))

    # --- data --------------------------------------------------------------------------------------

    def _stream(self, start: int) -> Any:
        process = (jax.process_index(), jax.process_count())
        return self.dataset.train.stream(**self.data, start=start, process=process, skip=tuple(self.skipped))

    def _feed(self) -> Iterator[tuple[Any, tuple[step.Phases, ...]]]:
        """(batch on the devices, due phases) of each call from here on, PREFETCH of them ahead."""
        n, k, last = self.step, self.config.steps_per_call, self.config.steps
        rows, queue = iter(self._stream(n)), deque()
        while True:
            while len(queue) <= PREFETCH and n < last:
                batches = list(itertools.islice(rows, min(k - n % k, last - n)))
                if not batches:
                    last = n
                    break
                for part in _alike(batches):
                    phases = tuple(step.due(self.model, n + i) for i in range(len(part)))
                    queue.append((self.engine.put(part), phases))
                    n += len(part)
            if not queue:
                return
            yield queue.popleft()

    # --- metrics -----------------------------------------------------------------------------------

    def _read(self, upto: int) -> None:
        """Reads the metrics of the calls that ended at or before step `upto`, and writes the lines due."""
        calls = []
        while self.pending and self.pending[0][0] <= upto:
            calls.append(self.pending.popleft())
        for (end, _, phases), packed in zip(calls, jax.device_get([c[1] for c in calls]), strict=True):
            for at, means in enumerate(self.engine.read(packed, phases), end - len(phases)):
                for name in (
                    f"{phase}/{what}" for what in ("loss", "grad_norm") for phase in self.model.phases
                ):
                    if name in means and not np.all(np.isfinite(means[name].total)):
                        raise _NonFinite(at, f"{name} is {means[name].total}")
                self.window.add(means)
                if self._every(self.config.log_every, at + 1):
                    self._line(at + 1)

    def _line(self, at: int) -> None:
        seconds = self.seconds + (time.perf_counter() - self.clock if self.clock is not None else 0.0)
        then, before = self.logged
        speed = (at - before) * self.data["batch"] / max(seconds - then, 1e-9)
        self.logged = (seconds, at)
        line = {"seconds": seconds, "examples_per_second": speed, **self.window.take()}
        line |= {f"learning_rate/{p}": rates[at // self.config.log_every] for p, rates in self.rates.items()}
        if self.logbook is not None:
            self.logbook.write(at, "train", line)

    def _evaluate(self) -> bool:
        """Writes the evaluation's line; True where the metric to keep the best by is better than ever."""
        c = self.config
        out: dict[str, Any] = {}
        for average in (None, *sorted(c.averages)):
            process = (jax.process_index(), jax.process_count())
            stream = self.dataset.eval.stream(order="once", batch=self.eval_batch, seed=0, process=process)
            variables = self.engine.variables(self.state, average)
            means = self.engine.evaluate(variables, itertools.islice(iter(stream), c.eval_batches))
            suffix = f"@{average}" if average else ""
            out |= {f"{k}{suffix}": np.asarray(v).tolist() for k, v in values(means).items()}
        if self.hooks.on_eval is not None:
            out |= self.hooks.on_eval(self.engine.variables(self.state), self.step)
        self.metrics = out
        if self.logbook is not None:
            self.logbook.write(self.step, "eval", {"seconds": self.seconds, **out})
        if c.keep_best is None:
            return False
        if c.keep_best not in out:
            raise ConfigError(f"train.keep_best: no metric {c.keep_best!r}", f"there are: {', '.join(out)}")
        value, sign = float(out[c.keep_best]), -1.0 if c.best == "max" else 1.0
        better = np.isfinite(value) and (self.best is None or sign * value < sign * self.best)
        self.best = value if better else self.best
        return bool(better)

    # --- saving, and what goes wrong ---------------------------------------------------------------

    def _save(self, best: bool = False) -> None:
        """Starts a checkpoint of this step, if it is finite and there is none."""
        assert self.checkpoints is not None
        self._read(self.step)
        if self.saved == self.step:
            return
        if leaf := self.engine.nonfinite(self.state):
            raise _NonFinite(self.step - 1, f"{leaf} is not finite")
        self._pause()
        record = {
            "identity": self.identity,
            "skipped": self.skipped,
            "window": self.window.saved(),
            "seconds": self.seconds,
            "best_value": self.best,
            "metrics": json.loads(json.dumps(self.metrics, default=float)),
        }
        if self.logbook is not None:
            self.logbook.sync()
        self.checkpoints.save(self.engine.canonical(self.state), record, best=best)
        self.saved = self.step
        self.clock = time.perf_counter()

    def _step_back(self, bad: _NonFinite) -> None:
        """After a non-finite step: stops with its diagnosis, or goes back and leaves that batch out."""
        assert self.checkpoints is not None
        self.checkpoints.wait()
        leaf = self._first_nonfinite(bad.at)
        what = f"{bad.what} at step {bad.at}; the first non-finite leaf is {leaf}"
        steps = self.checkpoints.steps()
        kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "nothing was saved"
        if self.config.on_nonfinite == "stop" or len(self.skipped) >= self.config.skip_limit:
            raise NonFiniteError(
                f"{what}; {kept}",
                "lower the learning rate, clip gradients (optimizer.clip), or leave such batches out "
                "(train.on_nonfinite='skip')",
            )
        number = self._stream(0).number(bad.at)
        self.skipped = sorted({*self.skipped, number})
        log.warning("%s; batch %d is left out from now on; %s", what, number, kept)
        self.state = self._restore()
        if self.logbook is not None:
            self.logbook.cut(self.step)

    def _first_nonfinite(self, at: int) -> str:
        for name, x in self._stream(0)[at].items():
            if np.issubdtype(x.dtype, np.inexact) and not np.isfinite(x).all():
                return f"batch[{name!r}]"
        return self.engine.nonfinite(self.state) or "the loss itself (parameters and batch are finite)"

    def _trace(self, tracing: bool) -> bool:
        first, last = self.config.profile or (-1, -1)
        if not tracing and first <= self.step < last:
            jax.profiler.start_trace(str(self.directory / "profile"))
            return True
        if tracing and self.step >= last:
            jax.block_until_ready(self.state)
            jax.profiler.stop_trace()
            return False
        return tracing


def _alike(batches: list[dict[str, np.ndarray]]) -> list[list[dict[str, np.ndarray]]]:
    """The batches of one call, or each for a call of its own where their forms differ (rows in buckets).

    Cutting at each change of form would make programs for every number of steps; this makes two a form.
    """
    forms = {tuple(x.shape for x in b.values()) for b in batches}
    return [batches] if len(forms) == 1 else [[b] for b in batches]
