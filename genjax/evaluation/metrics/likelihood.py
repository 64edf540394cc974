"""Score a model by its likelihood of the held-out rows (see evaluation/likelihood.py)."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from genjax.core import Model
from genjax.errors import ConfigError
from genjax.evaluation import estimates
from genjax.evaluation.config import Config
from genjax.evaluation.context import Context
from genjax.evaluation.likelihood import likelihood
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import LIKELIHOOD_KINDS, Definition, Score
from genjax.kinds import Unit
from genjax.sampling.sampler import keywords

MEANINGS = {
    "exact": "exact negative log-likelihood of held-out rows",
    "bound": "upper bound of the negative log-likelihood of held-out rows",
    "density": "negative log-density of held-out rows",
    "conditional": "negative log-likelihood of a part of each held-out row given the rest",
    "codes": "negative log-likelihood of the codes of held-out rows",
}
SCORES = {"likelihood": Definition("Likelihood", "lower", "realism", MEANINGS["exact"])}
"""Name, label, unit and criterion come from the kind of the main target; the name ends with "/<kind>"."""
REQUIRES = Requirements(model=True, likelihood=True)
CODES = Unit("nats_per_code", "Nats per code", "nats", "coherence")
"""The unit for the codes of a codec, which are not in the unit of the data."""


def measure(context: Context) -> list[Score]:
    """Return the average likelihood in the unit of the main target.

    Raises:
      ValueError: the model names a kind of likelihood that is unknown.
    """
    model = context.model
    assert model is not None
    kind = model.likelihood_kind
    unit = CODES if kind == "codes" else context.unit
    assert unit is not None
    if kind not in LIKELIHOOD_KINDS:
        raise ValueError(f"likelihood_kind {kind!r} is not one of {', '.join(LIKELIHOOD_KINDS)}")
    config = context.config
    held_out = context.dataset.eval
    step = functools.partial(context.progress, "likelihood")
    options = chosen(model, config)
    totals = likelihood(
        model,
        context.variables,
        held_out,
        batch=config.batch,
        seed=config.seed,
        options=options,
        progress=step,
    )
    value = totals.bits_per_unit() if unit.base == "bits" else totals.per_unit()
    protocol = context.protocol(split="eval", rows=len(held_out), kind=kind, seed=config.seed, **options)
    definition = Definition(f"{unit.label} ({kind})", "lower", unit.criterion, MEANINGS[kind], unit.base)
    return [
        estimates.of_interval(
            context, definition, f"{unit.name}/{kind}", value, protocol, context=totals.context
        )
    ]


def chosen(model: Model, config: Config) -> dict[str, Any]:
    """Return the options of the model's likelihood: `likelihood`, and the draws of importance sampling.

    Raises:
      ConfigError: an option that it does not have.
    """
    assert model.likelihood is not None
    given = dict(config.likelihood)
    if config.importance_samples is not None:
        if "samples" not in inspect.signature(model.likelihood).parameters:
            raise ConfigError(
                "evaluate.importance_samples: the likelihood of this model is not a bound from draws",
                "leave it at None",
            )
        given["samples"] = config.importance_samples
    return keywords(model.likelihood, given, "evaluate.likelihood", "this model's likelihood")
