"""Score a model by its size and its floating-point operations (see evaluation/cost.py)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.evaluation import cost, flops
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Scalar, Score

SCORES = {
    "parameters": Definition("Parameters", "lower", "cost", "numbers learned by gradient"),
    "train_flops": Definition(
        "FLOPs to train", "lower", "cost", "gradient operations per training example", "FLOP/example"
    ),
    "sample_flops": Definition("FLOPs to sample", "lower", "cost", "operations per sample", "FLOP/sample"),
    "train_seconds": Definition(
        "Seconds to train", "lower", "cost", "time of the training steps, without compilation", "s"
    ),
}
REQUIRES = Requirements(model=True)
TRACED = 8
"""Samples that are traced at once."""


def measure(context: Context) -> list[Score]:
    """Return parameters, FLOPs per training example and per sample, and the seconds of training if known."""
    context.progress("cost", 0, 1)
    scores = [_parameters(context), *_flops(context)]
    if context.train_seconds is not None:
        scores.append(_score(context, "train_seconds", context.train_seconds, cost.machine()))
    context.progress("cost", 1, 1)
    return scores


def _parameters(context: Context) -> Score:
    sizes = cost.parameters(context.variables)
    learned = sum(n for name, n in sizes.items() if name != "state")
    each = {f"numbers.{name}": n for name, n in sizes.items()}
    return _score(context, "parameters", learned, {"counted": "learned by gradient"}, **each)


def _flops(context: Context) -> list[Score]:
    model = context.model
    assert model is not None
    counted: dict[str, Scalar] = {"convention": flops.CONVENTION}
    # The unfinished variables: training sees them before `model.finish`.
    train = cost.training_flops(model, context.learned, context.spec)
    scores = [_score(context, "train_flops", train.total, counted, warnings="; ".join(train.warnings))]
    if model.sample is not None:
        _, prompt = context.sampler.arguments(np.arange(TRACED))
        drawn = cost.sampling_flops(model, context.variables, prompt, context.options, TRACED)
        warnings = "; ".join(drawn.warnings)
        scores.append(_score(context, "sample_flops", drawn.total, counted, warnings=warnings))
    return scores


def _score(
    context: Context, name: str, value: float, protocol: Mapping[str, Scalar], **detail: Scalar
) -> Score:
    return SCORES[name].score(name, value, context.protocol(**protocol), {**context.detail, **detail})
