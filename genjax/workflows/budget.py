"""Turn a budget of examples, seconds or FLOPs into training steps."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, Literal

import jax
import numpy as np

from genjax.errors import ConfigError
from genjax.evaluation import cost
from genjax.training import optimizers, step
from genjax.training.engine import Engine
from genjax.workflows.assemble import Experiment
from genjax.workflows.train import training_cost


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limit what every entry of a comparison may spend on training, its stages included.

    Attributes:
      kind: "steps"; "examples" (rows of training data: for text, equal tokens); "seconds", which one
        calibration turns into steps; "flops", divided by the FLOPs of a step as the jaxpr counts them.
      value: how many.
    """

    kind: Literal["steps", "examples", "seconds", "flops"] = "seconds"
    value: float = 60.0

    def __post_init__(self):
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"value must be positive and finite, got {self.value}")


def steps(budget: Budget, experiment: Experiment, passes: float | None = None) -> tuple[int, dict[str, Any]]:
    """Return the steps that a budget allows, and a record of how they were found.

    What the stages of the experiment took to train is charged to a budget of seconds or FLOPs.

    Args:
      passes: at most so many passes over the data, whatever the budget.

    Raises:
      ConfigError: the stages alone exceed the budget.
    """
    note: dict[str, Any] = dataclasses.asdict(budget)
    batch = experiment.settings.data.batch
    left = budget.value
    if experiment.stages and budget.kind in ("seconds", "flops"):
        note["stages"] = training_cost(experiment)[budget.kind]
        left = budget.value - note["stages"]
        if left <= 0:
            raise ConfigError(
                f"the stages of {experiment.settings.name} took {note['stages']:.3g} {budget.kind}, "
                f"and the whole budget is {budget.value:.3g}",
                "raise budget.value, or shorten the training of the stages",
            )
    found = _count(budget.kind, left, experiment, note)
    if passes is not None:
        most = math.ceil(passes * len(experiment.dataset.train) / batch)
        note["passes"] = passes
        found = min(found, most)
    note["steps"] = max(1, found)
    return note["steps"], note


def _count(kind: str, value: float, experiment: Experiment, note: dict[str, Any]) -> int:
    """Return the steps for `value`, and note what one of them costs."""
    batch = experiment.settings.data.batch
    if kind == "steps":
        return int(value)
    if kind == "examples":
        return math.ceil(value / batch)
    if kind == "flops":
        note["flops_per_step"] = flops_per_step(experiment)
        return int(value / max(note["flops_per_step"], 1))
    note["seconds_per_step"] = seconds_per_step(experiment)
    return int(value / note["seconds_per_step"])


def flops_per_step(experiment: Experiment) -> float:
    """Count the FLOPs of a training step, frozen stages included."""
    example = experiment.dataset.spec.example(1)
    form = jax.eval_shape(
        lambda key: experiment.model.init(key, example, experiment.frozen), jax.random.key(0)
    )
    form = form.replace(frozen=experiment.frozen)
    each = cost.training_flops(experiment.model, form, experiment.dataset.spec)
    return each.total * experiment.settings.data.batch


def seconds_per_step(experiment: Experiment, seconds: float = 3.0) -> float:
    """Return the median seconds of a training step over one cycle of phases, on a temporary state."""
    settings = experiment.settings
    model = experiment.model
    transforms = {
        p: optimizers.make(settings.optimizer_of(p), 1000, optimizers.factors(model, p))
        for p in model.players
    }
    stream = experiment.dataset.train.stream(settings.data.order, settings.data.batch, settings.seed)
    engine = Engine(
        model, transforms, settings.train, stream[0], frozen=experiment.frozen, seed=settings.seed
    )
    state = engine.create()
    cycle = max(phase.interval for phase in model.phases.values())
    times: list[float] = []
    began = None
    while began is None or time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        packed = None
        for i in range(cycle):
            batch = engine.put([stream[i]])
            state, packed = engine.step(state, batch, (step.due(model, i),))
        jax.block_until_ready((state, packed))
        if began is None:  # the first cycle compiles
            began = time.perf_counter()
            continue
        times.append((time.perf_counter() - start) / cycle)
    return float(np.median(times))
