"""End a run after a number of seconds: decide how many steps that is, and record every decision.

The steps are counted in the run itself. Shortly after the start, and again and again until the end, the speed
since the previous decision gives the step at which the seconds will be spent. Each decision is written to
pace.json before a step is taken under it; a run that resumes takes the recorded decisions at the same steps,
and decides again only after the last of them.

The schedule of the learning rate is stretched over the run. It is written for `train.steps` updates, and
what it says about update u of these happens when the fraction u / train.steps of the run is past. The
fraction is a piecewise linear function of the step: a decision changes its slope and never its value.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import files
from genjax.config import build
from genjax.core import Model
from genjax.errors import CheckpointError, ConfigError
from genjax.training import distributed, optimizers
from genjax.training.config import Config

if TYPE_CHECKING:
    from genjax.training.meter import Clock

FILE = "pace.json"
FIRST = 0.02
"""The first decision is made after this fraction of the seconds, or of the steps that the config names."""
WIDEST = 0.1
"""From one decision to the next at most this fraction of the seconds passes."""
NARROWEST = 0.01
"""Less than this fraction of the seconds before the end, nothing more is decided."""
OVERTIME = 1.02
"""A run that has spent this multiple of its seconds stops, wherever it is."""
SLACK = 0.01
"""Fraction of the seconds that steps which were dispatched and are not finished may take."""
AGAIN = "resume with the config that the run was started with, or give --dir another directory"


@dataclasses.dataclass(frozen=True)
class Limits:
    """State what limits a run, as its config has it.

    Attributes:
      seconds: of training.
      steps: for which the schedule is written.
      most: steps at most, whatever the seconds; None for no limit.
      per_call: steps of one call: a run ends after a multiple of them.
    """

    seconds: float
    steps: int
    most: int | None = None
    per_call: int = 1


@dataclasses.dataclass(frozen=True)
class Decision:
    """Hold what was decided after some step.

    Attributes:
      step: steps taken by then.
      seconds: of training spent by then.
      fraction: of the schedule that was past.
      end: the last step of the run.
      check: the next decision is made after this step,
      by: or after these seconds, whichever comes first.
    """

    step: int
    seconds: float
    fraction: float
    end: int
    check: int
    by: float

    @property
    def slope(self) -> float:
        """The fraction of the schedule that passes in a step."""
        return (1 - self.fraction) / (self.end - self.step) if self.end > self.step else 0.0

    def at(self, step: int) -> float:
        """Return the fraction of the schedule that is past after `step` steps."""
        return min(self.fraction + self.slope * (step - self.step), 1.0)

    def due(self, step: int, seconds: float) -> bool:
        """Return True if the next decision is due."""
        return step >= self.check or seconds >= self.by


def first(limits: Limits) -> Decision:
    """Return what holds until the speed is known: the steps that the schedule is written for."""
    end = max(limits.steps, round(1 / FIRST) * limits.per_call)
    check = max(round(FIRST * end), 1)
    return Decision(0, 0.0, 0.0, _capped(end, limits), check, FIRST * limits.seconds)


def decide(limits: Limits, last: Decision, step: int, seconds: float, each: float | None) -> Decision:
    """Return the decision after `step` steps, which follows `last`.

    Args:
      seconds: of training spent so far.
      each: seconds of a step since the last decision; None if unknown, which ends the run.
    """
    left = limits.seconds - seconds
    calls = round(left / each / limits.per_call) if each is not None else 0
    end = _capped(step + max(calls, 0) * limits.per_call, limits)
    gap = min(seconds, WIDEST * limits.seconds, left / 2)
    if each is None or gap < NARROWEST * limits.seconds:
        return Decision(step, seconds, last.at(step), end, end, OVERTIME * limits.seconds)
    check = step + max(round(gap / each), 1)
    return Decision(step, seconds, last.at(step), end, check, seconds + gap)


def _capped(end: int, limits: Limits) -> int:
    """Return `end`, or the most steps that are allowed: whole calls."""
    if limits.most is None:
        return end
    return min(end, -(-limits.most // limits.per_call) * limits.per_call)


def progress(arguments: Mapping[str, Any], step: jax.Array) -> jax.Array:
    """Return the fraction of the schedule that is past before a step, inside of the compiled step.

    Args:
      arguments: those of `Pace.arguments`.
      step: int32, steps taken.
    """
    since = (step - arguments["step"]).astype(jnp.float32)
    return jnp.clip(arguments["fraction"] + arguments["slope"] * since, 0.0, 1.0)


class Pace:
    """Decide in the course of one run, and write the decisions to its directory.

    Attributes:
      current: the decision that holds now.
      ahead: calls that may be dispatched ahead of the devices: what they take is less than SLACK of the
        seconds, so that the clock of the host shows what has been spent.
    """

    def __init__(self, limits: Limits, directory: Path):
        self._limits = limits
        self._path = directory / FILE
        self._decisions: list[Decision] = []
        self._mark = (0, 0.0)
        self._untimed = 0
        self.current = first(limits)
        self.ahead = 1

    @property
    def end(self) -> int:
        """The last step of the run, as far as it is known."""
        return self.current.end

    def arguments(self) -> dict[str, np.ndarray]:
        """Return the current line of the fraction over the steps, as arguments of the compiled step."""
        return {
            "step": np.asarray(self.current.step, np.int32),
            "fraction": np.asarray(self.current.fraction, np.float32),
            "slope": np.asarray(self.current.slope, np.float32),
        }

    def restart(self, step: int, clock: Clock) -> None:
        """Go on from `step`, with what was decided at or before it.

        Raises:
          ConfigError: the run was begun under other limits.
          CheckpointError: pace.json is missing or cannot be read.
        """
        saved = read(self._path)
        if step and saved is None:
            raise CheckpointError(
                f"{self._path} is missing: the run in it was not begun with train.seconds, or it was deleted",
                "restore the file, or " + AGAIN,
            )
        limits, self._decisions = saved or (self._limits, [])
        if limits != self._limits:
            if step:
                raise ConfigError(
                    f"{self._path.parent} holds a run {_difference(limits, self._limits)}", AGAIN
                )
            self._decisions = []
        self.current = [first(self._limits), *(d for d in self._decisions if d.step <= step)][-1]
        self._mark = (step, clock.seconds)
        self._untimed = 0

    def untimed(self, steps: int) -> None:
        """Take note of steps that the clock does not count: those of a call that compiled."""
        self._untimed += steps

    def update(self, step: int, clock: Clock, wait: Callable[[], None]) -> bool:
        """Decide if it is time to, or repeat what was decided after this step; return whether it was.

        Args:
          wait: returns when the steps that were dispatched are finished.
        """
        if self._decisions and step <= self._decisions[-1].step:
            return self._repeat(step, clock)
        if step < self.end and not self.current.due(step, clock.seconds):
            return False
        wait()
        each = self._each(step, clock.seconds)
        if each is None and clock.seconds < OVERTIME * self._limits.seconds:
            return False  # no step was timed since the last decision
        if step >= self.end and self._limits.seconds - clock.seconds < 2 * NARROWEST * self._limits.seconds:
            each = None  # the end: recorded, so that a repetition ends here as well
        self.current = decide(self._limits, self.current, step, clock.seconds, each)
        if each is not None:
            self.ahead = max(1, int(SLACK * self._limits.seconds / (each * self._limits.per_call)))
        self._decisions.append(self.current)
        self._write()
        self._marked(step, clock)
        return True

    def _repeat(self, step: int, clock: Clock) -> bool:
        found = next((d for d in self._decisions if d.step == step), None)
        if found is None:
            return False
        self.current = found
        clock.pause()
        clock.at_least(found.seconds)
        clock.start()
        self._marked(step, clock)
        return True

    def _marked(self, step: int, clock: Clock) -> None:
        """Measure the speed from here on."""
        self._mark = (step, clock.seconds)
        self._untimed = 0

    def _each(self, step: int, seconds: float) -> float | None:
        """Return the seconds of a step since the last decision; None if no step was timed."""
        steps = step - self._mark[0] - self._untimed
        return max(seconds - self._mark[1], 1e-9) / steps if steps > 0 else None

    def _write(self) -> None:
        decisions = [dataclasses.asdict(d) for d in self._decisions]
        files.write_json(self._path, {"limits": dataclasses.asdict(self._limits), "decisions": decisions})


def of_run(config: Config, rows: int, batch: int, directory: Path) -> Pace | None:
    """Return what decides about the end of a run; None if `train.steps` does.

    Args:
      rows: of the training split.
      batch: rows of the global batch.
      directory: of the run.

    Raises:
      ConfigError: seconds limit a run of several processes.
    """
    if config.seconds is None:
        return None
    if distributed.count() > 1:
        raise ConfigError("train.seconds limits runs of one process only", "set train.steps")
    most = None if config.passes is None else math.ceil(config.passes * rows / batch)
    return Pace(Limits(config.seconds, config.steps, most, config.steps_per_call), directory)


def restart(pace: Pace | None, directory: Path, step: int, clock: Clock) -> None:
    """Go on at `step` under the decisions that were recorded before it.

    Raises:
      ConfigError: a run that was limited by seconds goes on without a limit, or under another one.
      CheckpointError: pace.json is missing or cannot be read.
    """
    if pace is not None:
        pace.restart(step, clock)
    elif step and (directory / FILE).exists():
        raise ConfigError(f"{directory} holds a run that is limited by train.seconds", AGAIN)


def optimizers_of_run(
    model: Model, configs: Mapping[str, optimizers.Config], config: Config, pace: Pace | None
) -> tuple[Any, Callable[[int], Mapping[str, float]]]:
    """Return the players' optimizers, and their learning rates as a function of the step."""
    if pace is None:
        return optimizers.of_players(model, configs, config.steps, config.log_every)
    transforms, rates = optimizers.stretched_of_players(model, configs, config.steps)
    return transforms, lambda step: rates(pace.current.at(step - 1))


def read(path: Path) -> tuple[Limits, list[Decision]] | None:
    """Return what a pace.json holds; None if there is no such file.

    Raises:
      CheckpointError: it cannot be read.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        return build(Limits, raw["limits"]), [build(Decision, d) for d in raw["decisions"]]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, ConfigError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error!r}", "restore the file, or train in a new directory"
        ) from error


def _difference(old: Limits, new: Limits) -> str:
    """Return the first field in which two limits differ, in words."""
    names = {"seconds": "train.seconds", "steps": "train.steps", "most": "train.passes (in steps)"}
    for field in dataclasses.fields(old):
        was = getattr(old, field.name)
        now = getattr(new, field.name)
        if was != now:
            name = names.get(field.name, "train.steps_per_call")
            return f"with {name}={was!r}, and this config has {now!r}"
    return "with other limits"
