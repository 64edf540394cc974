"""Turn a budget of steps, examples, seconds or FLOPs into limits of a training."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax

from genjax.config import Range, check
from genjax.errors import ConfigError
from genjax.evaluation import cost
from genjax.workflows.assemble import Experiment
from genjax.workflows.train import training_cost


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limit what every entry of a comparison may spend on training, its stages included.

    Attributes:
      kind: "steps"; "examples" (rows of training data: for text, equal tokens); "seconds", which the run
        itself turns into steps (training/pace.py); "flops", divided by the FLOPs of a step as the jaxpr
        counts them.
      value: how many.
    """

    kind: Literal["steps", "examples", "seconds", "flops"] = "seconds"
    value: Annotated[float, Range(above=0, most=1e30)] = 60.0

    def __post_init__(self):
        check(self)


def limits(
    budget: Budget, experiment: Experiment, passes: float | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the train section that keep a budget, and a record of how they were found.

    What the stages of the experiment took to train is charged to a budget of seconds or FLOPs.

    Args:
      passes: at most so many passes over the data, whatever the budget.

    Raises:
      ConfigError: the stages alone exceed the budget.
    """
    note: dict[str, Any] = {**dataclasses.asdict(budget), "asked": experiment.settings.train.steps}
    left = budget.value
    if experiment.stages:
        spent = training_cost(experiment)
        note["stage_seconds"] = spent["seconds"]
        if budget.kind in spent:
            note["stages"] = spent[budget.kind]
            left = _left(budget, note["stages"], experiment.settings.name)
    if passes is not None:
        note["passes"] = passes
    if budget.kind == "seconds":
        return {"seconds": left, "passes": passes}, note
    found = max(1, _steps(budget.kind, left, experiment, note))
    if passes is not None:
        rows = len(experiment.dataset.train)
        found = min(found, math.ceil(passes * rows / experiment.settings.data.batch))
    note["steps"] = found
    return {"steps": found}, note


def _left(budget: Budget, spent: float, name: str) -> float:
    """Return what the stages have left of a budget.

    Raises:
      ConfigError: nothing.
    """
    if spent >= budget.value:
        raise ConfigError(
            f"the stages of {name} took {spent:.3g} {budget.kind}, and the whole budget is "
            f"{budget.value:.3g}",
            "raise budget.value, or shorten the training of the stages",
        )
    return budget.value - spent


def _steps(kind: str, value: float, experiment: Experiment, note: dict[str, Any]) -> int:
    """Return the steps for `value`, and note what one of them costs."""
    if kind == "steps":
        return int(value)
    if kind == "examples":
        return math.ceil(value / experiment.settings.data.batch)
    note["flops_per_step"] = flops_per_step(experiment)
    return int(value / max(note["flops_per_step"], 1))


def flops_per_step(experiment: Experiment) -> float:
    """Count the FLOPs of a training step, frozen stages included."""
    example = experiment.dataset.spec.example(1)
    form = jax.eval_shape(
        lambda key: experiment.model.init(key, example, experiment.frozen), jax.random.key(0)
    )
    form = form.replace(frozen=experiment.frozen)
    each = cost.training_flops(experiment.model, form, experiment.dataset.spec)
    return each.total * experiment.settings.data.batch
