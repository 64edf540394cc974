"""Score a model, and the real data beside it (the floor), under one protocol.

    reference = ReferenceStatistics(dataset, features, config)      # once for a table: see reference.py
    scores, samples = evaluate(model, variables, dataset, features, config, options, reference=reference)
    table({"real data": floor(dataset, features, config, reference=reference), "vae": scores, ...})

A metric that does not apply to a model (no sampler, no likelihood) or to the data (no raw values) is left
out, never filled in: such a row has no cell in that column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genjax.core import Model, Variables
from genjax.evaluation import metrics
from genjax.evaluation.batches import Columns
from genjax.evaluation.config import Config
from genjax.evaluation.context import Context
from genjax.evaluation.features import Features
from genjax.evaluation.metrics import Metric
from genjax.evaluation.reference import ReferenceStatistics, Report
from genjax.evaluation.scores import Score


def evaluate(
    model: Model,
    variables: Variables,
    dataset: Any,
    features: Features | None,
    config: Config,
    options: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    *,
    reference: ReferenceStatistics | None = None,
    train_seconds: float | None = None,
) -> tuple[list[Score], Columns]:
    """Measure all scores of one model; return them with the samples that they are of.

    Args:
      variables: as the checkpoint has them: the average is chosen and model.finish applied here, once.
      dataset: a genjax.data.Dataset.
      features: an extractor; None measures raw values.
      options: of model.sample: static; kept in each score's detail as "option.<name>".
      progress: called with (stage, done, total).
      reference: of this dataset, features and config, if it exists already.
      train_seconds: duration of training, for the cost.

    Returns:
      (scores, samples {element: (sets * N, ...)}). Sample i is a function of the seed, i and the weights,
      whatever config.batch is. Without a metric that applies to samples (text), `batch` samples are drawn
      to look at; samples are empty for a model without a sampler or if no metric of samples is wanted.

    Raises:
      ConfigError: the protocol does not fit the data, or config.average is not among the averages.
      NonFiniteError: samples or likelihoods that are not finite.
    """
    context = Context(
        dataset,
        features,
        config,
        model=model,
        variables=variables,
        options=options,
        reference=reference,
        progress=progress,
        train_seconds=train_seconds,
    )
    applicable = metrics.applicable(context)
    scores = [score for metric in applicable for score in metric.measure(context)]
    return scores, _samples(context, applicable)


def floor(
    dataset: Any,
    features: Features | None,
    config: Config,
    progress: Report | None = None,
    *,
    reference: ReferenceStatistics | None = None,
) -> list[Score]:
    """Measure the same scores of held-out real data: sets of N eval rows against the same reference.

    Raises:
      ConfigError: the eval split has fewer than N rows, so that no floor at this N exists.
    """
    context = Context(dataset, features, config, reference=reference, progress=progress)
    return [score for metric in metrics.applicable(context) for score in metric.measure(context)]


def _samples(context: Context, applicable: Sequence[Metric]) -> Columns:
    """Return the samples that were scored, or a batch to look at if samples are wanted and not scored."""
    assert context.model is not None
    if any(metric.REQUIRES.samples for metric in applicable):
        return context.samples
    wanted = metrics.wanted(context.config).values()
    if context.model.sample is None or not any(metric.REQUIRES.samples for metric in wanted):
        return {}
    return context.draw(context.config.batch)
