"""Save a picture of samples while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genjax.core import Variables
from genjax.training import distributed, sharding
from genjax.workflows import sample
from genjax.workflows.assemble import Experiment

COLUMNS = 10
"""Samples in a line of the picture, which has a line for each class (four without classes)."""
MOST_LINES = 10


def hook_of(experiment: Experiment, directory: Path) -> Callable[[Variables, int], None] | None:
    """Return what training calls to save a picture of the model's samples; None for a model without sampler.

    Every process draws, since the weights may be sharded; the primary one writes.
    """
    if experiment.model.sample is None:
        return None
    num = COLUMNS * max(1, min(experiment.dataset.spec.classes() or 4, MOST_LINES))
    draw = sample.sampler(experiment, batch=min(num, experiment.settings.evaluate.batch))

    def hook(variables: Variables, step: int) -> None:
        rows = draw.draw(draw.finish(sharding.gathered(variables)), num)
        if distributed.is_primary():
            name = f"step_{step:08d}"
            sample.save(experiment.dataset, rows, directory / "samples" / name, columns=COLUMNS)

    return hook
