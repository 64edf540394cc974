"""Score a sampler by its speed and its memory at several batch sizes (see evaluation/cost.py)."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import cost
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Scalar, Score

SCORES = {
    "samples_per_second": Definition("Samples a second", "higher", "cost", "median of repeated runs", "1/s"),
    "sample_memory": Definition("Memory to sample", "lower", "cost", "memory of the compiled sampler", "B"),
}
"""The names end with "_<batch size>"."""
REQUIRES = Requirements(model=True, sampler=True)


def measure(context: Context) -> list[Score]:
    """Return samples per second and memory for each of evaluate.speed_batches."""
    scores = []
    batches = context.config.speed_batches
    for i, batch in enumerate(batches):
        context.progress("speed", i, len(batches))
        scores += _at(context, batch)
    context.progress("speed", len(batches), len(batches))
    return scores


def _at(context: Context, batch: int) -> list[Score]:
    """Return the scores at one batch size."""
    sampler = context.sampler
    repeats = context.config.repeats
    program = sampler.compiled(context.variables, batch)
    keys, prompt = sampler.arguments(np.arange(batch))
    s = cost.speed(program, context.variables, keys, prompt, repeats=repeats)
    protocol: dict[str, Scalar] = {**cost.machine(), "batch": batch}
    spread: dict[str, Scalar] = {"slowest": s.slowest, "fastest": s.fastest, "repeats": repeats}
    scores = [_score(context, "samples_per_second", batch, s.per_second, protocol, spread)]
    if s.memory is not None:
        peak: dict[str, Scalar] = {"device_peak_bytes": cost.device_memory_peak()}
        protocol = {**protocol, "method": s.method}
        scores.append(_score(context, "sample_memory", batch, s.memory, protocol, peak))
    return scores


def _score(
    context: Context,
    stem: str,
    batch: int,
    value: float,
    protocol: dict[str, Scalar],
    detail: dict[str, Scalar],
) -> Score:
    definition = SCORES[stem]
    definition = definition._replace(label=f"{definition.label} (batch {batch})")
    detail = {**context.detail, **detail}
    return definition.score(f"{stem}_{batch}", value, context.protocol(**protocol), detail)
