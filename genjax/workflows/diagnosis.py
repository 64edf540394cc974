"""Look for mode collapse while a run trains: an alarm in the log, figures in metrics.jsonl."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from genjax.core import Variables
from genjax.errors import ConfigError
from genjax.evaluation import collapse, prdc
from genjax.evaluation.config import Config
from genjax.evaluation.reference import ReferenceStatistics
from genjax.training import sharding
from genjax.workflows import sample
from genjax.workflows.assemble import Experiment

ROWS = 5000
"""Training rows that samples are compared with."""
NEIGHBOURS = 1000
"""Rows and samples that precision and recall are measured on."""
LEAST = 50
"""Samples, below which the absence of some proves nothing."""
log = logging.getLogger("genjax")
Hook = Callable[[Variables, int], dict[str, float]]


def hook_of(experiment: Experiment) -> Hook | None:
    """Return what training calls at every evaluation; None if train.diagnose is 0.

    Every process draws, since the weights may be sharded.

    Raises:
      ConfigError: the model has no sampler, or the data no raw values to compare.
    """
    count = experiment.settings.train.diagnose
    if not count:
        return None
    if count < LEAST:
        raise ConfigError(
            f"train.diagnose={count}: fewer than {LEAST} samples show no collapse", "draw more, or 0 for none"
        )
    dataset = experiment.dataset
    statistics = ReferenceStatistics(dataset, None, Config(reference=min(ROWS, len(dataset.train))))
    if experiment.model.sample is None or not statistics.measurable:
        raise ConfigError(
            "train.diagnose: the model draws no samples, or they have no values that could be compared",
            "set train.diagnose=0",
        )
    draw = sample.sampler(experiment, batch=min(count, experiment.settings.evaluate.batch))
    bins = collapse.Bins.of(statistics.raw)
    manifold = prdc.Manifold.of(statistics.raw[:NEIGHBOURS])

    def hook(variables: Variables, step: int) -> dict[str, float]:
        rows = draw.draw(draw.finish(sharding.gathered(variables)), count)
        drawn = np.asarray(statistics.raw_of(rows))
        near = prdc.prdc(manifold, drawn[:NEIGHBOURS])
        found = collapse.diagnose(bins, drawn, near.precision)
        if found.alarm:
            log.warning("step %d: %s", step, found)
        return {
            "diagnosis/lost": len(found.lost) / found.bins,
            "diagnosis/missing": found.missing,
            "diagnosis/alarm": float(found.alarm),
            "diagnosis/precision": near.precision,
            "diagnosis/recall": near.recall,
        }

    return hook
