"""Take the steps of one run: restore, step, evaluate, save, call hooks, leave non-finite batches out."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from genjax.core import Model, Variables
from genjax.errors import Interrupted
from genjax.training import distributed, optimizers, pace, rescue, sharding
from genjax.training.best import Best
from genjax.training.checkpoint import Checkpoints
from genjax.training.config import Config
from genjax.training.engine import Engine
from genjax.training.evaluations import Evaluations
from genjax.training.feed import feed, first_rows
from genjax.training.hooks import Caller, Hooks
from genjax.training.logbook import Logbook, Progress
from genjax.training.meter import IN_FLIGHT, Clock, Meter, NonFinite
from genjax.training.record import Record
from genjax.training.result import Result
from genjax.training.signals import Stop
from genjax.training.skips import Skips, nonfinite_element
from genjax.training.step import Phases, TrainState
from genjax.training.tracing import Trace

log = logging.getLogger("genjax")
ASK_EVERY = 10  # calls after which the processes of a run ask each other for a signal to stop


class Run:
    """Take a run from its last checkpoint, or from step 0, to its last step.

    Attributes:
      average: the average of the variables that hooks receive; None for the parameters themselves.
      initial: variables of another run that step 1 starts from, or None.
      begin: called before the first file is written, or None.
      step: steps dispatched; their metrics may not have been read yet.
      saved: step of the last checkpoint; -1 if there is none.
      handled: the last step after which nothing that was due is left.
      again: what was due after the step of the checkpoint is done first; its record then says so.
      complete: the last step is saved and its hooks have returned.
      evaluations: hold the results of the last one.
      record: what a checkpoint holds beside the state.
      pace: decides when a run that is limited by seconds ends; None for one of a number of steps.
    """

    average: str | None
    initial: Variables | None
    begin: Callable[[], None] | None
    process: tuple[int, int]
    engine: Engine
    state: TrainState
    meter: Meter
    caller: Caller
    best: Best
    evaluations: Evaluations
    record: Record

    def __init__(
        self,
        model: Model,
        dataset: Any,
        config: Config,
        directory: Path,
        data: dict[str, Any],
        eval_batch: int,
        identity: dict[str, Any],
    ):
        self.model = model
        self.dataset = dataset
        self.config = config
        self.directory = directory
        self.data = data
        self.eval_batch = eval_batch
        self.identity = identity
        self.skips = Skips(config)
        self.clock = Clock()
        self.step = 0
        self.saved = -1
        self.handled = 0
        self.again = False
        self.complete = False
        self.checkpoints: Checkpoints | None = None
        self.logbook: Logbook | None = None
        self.progress: Progress | None = None
        self.pace = pace.of_run(config, len(dataset.train), data["batch"], directory)

    @property
    def end(self) -> int:
        """The last step, as far as it is known."""
        return self.config.steps if self.pace is None else self.pace.end

    # --- opening and closing -----------------------------------------------------------------------

    def open(
        self,
        optimizer: Mapping[str, optimizers.Config],
        hooks: Hooks,
        seed: int,
        frozen: Mapping[str, Variables] | None,
        devices: Sequence[Any] | None,
    ) -> None:
        """Build the engine, restore the state and open the logs."""
        c = self.config
        self.process = sharding.share(sharding.make_mesh(c.mesh, list(devices or jax.devices())))
        transforms, rates = pace.optimizers_of_run(self.model, optimizer, c, self.pace)
        example = self._stream(0)[0]
        self.engine = Engine(self.model, transforms, c, example, frozen=frozen, seed=seed, devices=devices)
        self.caller = Caller(hooks, self.directory)
        self.evaluations = Evaluations(self.engine, self.dataset.eval, self.eval_batch)
        known = self.evaluations.names() if c.keep_best else []
        self.best = Best(c, known, self.caller.evaluates)
        self.meter = Meter(self.engine, self.clock, rates, self.data["batch"], c.log_every)
        parts = (self.skips, self.clock, self.meter, self.best, self.evaluations)
        self.record = Record(self.identity, self.dataset.digest, *parts)
        self.checkpoints = Checkpoints(self.directory, c.keep_last)
        pending = self._restore()
        self.again = rescue.EVENTS in pending
        if (primary := distributed.is_primary()) and self.begin is not None:
            self.begin()
        if primary:
            self.logbook = Logbook(
                self.directory,
                tensorboard=c.tensorboard,
                wandb=c.wandb,
                step=self.step,
                again=self.again or "on_eval" in pending,
            )
            self.meter.logbook = self.logbook
        show = c.progress and primary
        self.progress = Progress(self.directory.name, self.end, self.step, self.data["batch"], show)
        if pending and not self.again:
            self._call_hooks(pending, written="on_eval" not in pending, end=self.step >= self.end)
        self.complete = self.step >= self.end and not self.again
        if primary and not self.complete:
            leaves = jax.tree.leaves(self.engine.form.variables.params)
            count = sum(math.prod(leaf.shape) for leaf in leaves)
            log.info("%s: %s parameters; compiling the first step", self.directory.name, f"{count:,}")

    def close(self) -> None:
        """Close the logs and wait for the checkpoints, all of them if one fails.

        Raises:
          CheckpointError: one has failed.
        """
        with contextlib.ExitStack() as last:
            if self.checkpoints is not None and not distributed.lost():
                last.callback(self.checkpoints.close)
            if self.logbook is not None:
                last.callback(self.logbook.close)
            if self.progress is not None:
                last.callback(self.progress.close)

    def _restore(self) -> list[str]:
        """Restore the newest readable checkpoint, or create the first state; return hooks left to call."""
        assert self.checkpoints is not None
        found = self.checkpoints.restore(self.engine.form, self.engine.layout, self.identity)
        record = found.record if found else {}
        self.step = found.step if found else 0
        self.saved = self.step if found else -1
        self.record.restore(self.step, record)
        pace.restart(self.pace, self.directory, self.step, self.clock)
        if self.pace is not None:
            self.engine.line = self.pace.arguments()
        unfinished = self.caller.resume(self.step, self.evaluations.step)
        self.state = self.engine.adopt(found.state) if found else self._first()
        self.handled = self.step
        return record.get("hooks", []) if found and unfinished else []

    def _first(self) -> TrainState:
        """Return the state that step 1 starts from, fitted on the first rows of the shuffled split."""
        how = {"ways": self.engine.ways, "seed": self.data["seed"], "process": self.process}
        rows = first_rows(self.dataset.train, self.config.fit_rows, **how) if self.model.fit else {}
        return self.engine.start(rows, self.initial)

    def nothing_lost(self) -> bool:
        """Return True if the process may end now, and no step is repeated later. Called from a thread."""
        if self.complete or self.checkpoints is None:
            return not self.complete
        return self.step == max(self.saved, 0) and (self.step == 0 or self.checkpoints.written(self.step))

    def idle(self) -> bool:
        """Return True if no checkpoint is being written. Called from a thread."""
        return self.checkpoints is None or not self.checkpoints.writing()

    # --- the loop ----------------------------------------------------------------------------------

    def __call__(self, stop: Stop) -> Result:
        """Take all remaining steps. Raises as `loop.train`.

        Other errors, of the data or an evaluation for example, are raised when the steps are saved.
        """
        try:
            self._all(stop)
        except Exception as error:
            rescue.save(self, error)
            raise
        if self.checkpoints is not None:
            self.checkpoints.wait()
        self.caller.check()
        variables = self.engine.variables(self.state)
        metrics = {**self.evaluations.losses, **self.caller.values}
        return Result(self.step, variables, metrics, self.clock.seconds, tuple(self.skips.batches))

    def _all(self, stop: Stop) -> None:
        """Take steps until the last one, going back where one is not finite."""
        if self.again:
            self._events(stop, end=self.step >= self.end)
        while True:
            try:
                return self._advance(stop)
            except NonFinite as bad:
                self._step_back(bad)

    def _advance(self, stop: Stop) -> None:
        """Take steps until the last one. Raises NonFinite, and Interrupted at a signal."""
        c = self.config
        trace = Trace(c.profile, self.directory)
        self.clock.start()
        stream = self._stream(self.step)
        # The end of a run that is limited by seconds may still move: the loop below stops at it.
        stop_at = self.end if self.pace is None or self.step >= self.end else sys.maxsize
        for batch, phases in feed(stream, self.engine.put, self.model, self.step, stop_at, c.steps_per_call):
            trace.at(self.step, self.state)
            packed = self._take(batch, phases)
            due = self.step if _every(c.log_every, self.step) else None
            self.step += len(phases)
            self.meter.add(self.step, packed, phases)
            if due is not None:  # read one step late, so that the host never waits for the step it dispatched
                self.meter.read(due)
            self.meter.limit(IN_FLIGHT if self.pace is None else min(IN_FLIGHT, self.pace.ahead))
            self._decide()
            if self.progress is not None:
                self.progress(self.step)
            self._events(stop, end=self.step >= self.end)
            if not self.complete and self._stopping(stop):
                self._leave(stop)
            if self.step >= self.end:
                break
        trace.close()
        if self.saved != self.step:  # the data ended before the last step
            self._events(stop, end=True)

    def _take(self, batch: Any, phases: tuple[Phases, ...]) -> Any:
        """Take the steps of one call and return its packed metrics. A call that compiles is not timed."""
        if not self.engine.compiles(batch, phases):
            self.state, packed = self.engine.step(self.state, batch, phases)
            return packed
        jax.block_until_ready(self.state)
        self.clock.pause()
        self.state, packed = self.engine.step(self.state, batch, phases)
        jax.block_until_ready((self.state, packed))
        self.clock.start()
        if self.pace is not None:
            self.pace.untimed(len(phases))
        return packed

    def _decide(self) -> None:
        """Decide how many steps are left, if it is time to."""
        if self.pace is None:
            return
        if self.pace.update(self.step, self.clock, lambda: jax.block_until_ready(self.state)):
            self.engine.line = self.pace.arguments()
            if self.progress is not None:
                self.progress.total = self.pace.end

    def _stopping(self, stop: Stop) -> bool:
        """Return True if a signal came. All processes of a run stop at the same step."""
        if distributed.count() == 1:
            return stop.signal is not None
        asks = self.step >= self.end or _every(ASK_EVERY * self.config.steps_per_call, self.step)
        return asks and distributed.any_of(stop.signal is not None)

    def _leave(self, stop: Stop, hooks: Sequence[str] = ()) -> None:
        """Save, and raise Interrupted with the name of the signal.

        Args:
          hooks: names of the hooks to call when the run is resumed.
        """
        assert self.checkpoints is not None
        self.save(hooks=hooks)
        self.checkpoints.wait()
        signal = next(s for s in distributed.gather(stop.signal) if s)
        raise Interrupted(
            f"stopped by {signal} after step {self.step}; the run has saved in {self.directory}",
            "run the same command again to go on",
        )

    def _stream(self, start: int) -> Any:
        skip = tuple(self.skips.batches)
        return self.dataset.train.stream(**self.data, start=start, process=self.process, skip=skip)

    # --- events ------------------------------------------------------------------------------------

    def _events(self, stop: Stop, end: bool) -> None:
        """Evaluate, save and call hooks, where they are due at this step.

        Raises:
          Interrupted: a signal came, and hooks are due: they are called when the run is resumed.
        """
        assert self.checkpoints is not None
        c = self.config
        n = self.step
        evaluate = end or _every(c.eval_every, n)
        sample = end or _every(c.sample_every, n)
        save = end or _every(c.checkpoint_every, n)
        if not (evaluate or sample or save):
            self.handled = n
            return
        self.meter.read(n)
        self.clock.pause()
        due = self.caller.due(evaluate, sample)
        better = False
        # on_eval adds to the evaluation's line. It is called after the save, so that its failure cannot cost
        # the checkpoint, unless its value decides what is saved.
        early = evaluate and ("on_eval" not in due or self.best.from_hook)
        if evaluate:
            self.evaluations.measure(self.state, n)
            if early:
                self._write_evaluation()
            better = self.best.improved(self.evaluations.losses)
        later = [h for h in due if h != "on_eval" or not early]
        if save or better or self.again:
            self.save(best=better, hooks=later)
        if early and self.best.from_hook and not self.caller.failed("on_eval"):
            self.best.check(self.evaluations.losses)
        if end:
            self.checkpoints.wait()  # whatever happens in the last picture
        if later and self._stopping(stop):
            self._leave(stop, later)
        self._call_hooks(due, written=early, end=end)
        self.handled = n
        self.clock.start()

    def _call_hooks(self, due: Sequence[str], written: bool, end: bool) -> None:
        """Call the hooks that are due; on_eval only if the evaluation's line is not `written` yet."""
        if "on_eval" in due and not written:
            self._write_evaluation()
        if "on_sample" in due:
            self.caller.on_sample(self.engine.variables(self.state, self.average), self.step)
        self.complete = end
        if due:
            self.caller.finished(self.step)

    def _write_evaluation(self) -> None:
        """Call on_eval, if there is such a hook, and write the evaluation's line."""
        found: dict[str, Any] = {}
        if self.caller.evaluates:
            found = self.caller.on_eval(self.engine.variables(self.state, self.average), self.step)
            if self.best.from_hook:
                self.evaluations.losses |= json.loads(json.dumps(found, default=float))
        if self.logbook is not None:
            line = {"seconds": self.clock.seconds, **self.evaluations.losses, **found}
            self.logbook.write(self.evaluations.step, "eval", line)

    # --- saving, and steps that are not finite -----------------------------------------------------

    def save(self, best: bool = False, hooks: Sequence[str] = ()) -> None:
        """Start a checkpoint of this step, if there is none. Raises NonFinite if the state is not finite.

        Args:
          hooks: names of the hooks that are called after the save, recorded for a restart before they end.
        """
        assert self.checkpoints is not None
        self.meter.read(self.step)
        if self.saved == self.step:
            if self.again:
                self.checkpoints.amend(self.step, self.record.saved(hooks), best)
            self.again = False
            return
        if leaf := self.engine.nonfinite(self.state):
            raise NonFinite(self.step - 1, f"{leaf} is not finite")
        self.clock.pause()
        if self.logbook is not None:
            self.logbook.sync()
        self.checkpoints.save(self.engine.canonical(self.state), self.record.saved(hooks), best=best)
        self.saved = self.step

    def _step_back(self, bad: NonFinite) -> None:
        """Restore the last checkpoint and leave the batch of the non-finite step out, or raise.

        Raises:
          NonFiniteError: names the step, the value and the first non-finite leaf.
        """
        assert self.checkpoints is not None
        self.checkpoints.wait()
        leaf = nonfinite_element(self._stream(0)[bad.at]) or self.engine.nonfinite(self.state)
        leaf = leaf or "the loss itself (parameters and batch are finite)"
        what = f"{bad.what} at step {bad.at}; the first non-finite leaf is {leaf}"
        self.skips.add(what, self.checkpoints.steps(), lambda: self._stream(0).number(bad.at))
        self._restore()
        if self.logbook is not None:
            self.logbook.cut(self.step)


def _every(every: int, at: int) -> bool:
    return every > 0 and at > 0 and at % every == 0
