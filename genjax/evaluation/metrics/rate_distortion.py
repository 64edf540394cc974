"""Divide the bound of a model with latent variables into rate and distortion.

    -log p(x) <= KL(q(z | x) || p(z)) + E_q[-log p(x | z)]
                 rate                   distortion                (Alemi et al. 2018, arXiv:1711.00464)

The sum is the expected net length of bits-back coding (Hinton & van Camp 1993; Townsend et al. 2019,
arXiv:1901.04866), without the initial bits, where p(x | z) is a probability of the data's levels. Under a
density of x only the rate is a number of bits.
"""

from __future__ import annotations

import functools

from genjax.core import Batch, Keys, Mean, Model, Tree, Variables
from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.likelihood import Totals, likelihood
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "rate": Definition("Rate", "lower", "cost", "KL(q || p) per dimension of the data", "bits"),
    "distortion": Definition("Distortion", "lower", "realism", "-log p(x | z) per dimension", "bits"),
    "bits_back": Definition(
        "Bits-back rate", "lower", "cost", "expected net length of bits-back coding per dimension", "bits"
    ),
}
REQUIRES = Requirements(model=True, likelihood=True)


def measure(context: Context) -> list[Score]:
    """Return the scores on the held-out rows; nothing for a model without latent variables."""
    model = context.model
    assert model is not None
    if model.rate_distortion is None:
        return []
    rate, distortion = (_totals(context, model, part) for part in range(2))
    parts = {"rate": rate}
    if model.likelihood_kind == "bound":
        parts["distortion"] = distortion
        parts["bits_back"] = Totals(rate.nats + distortion.nats, rate.units)
    protocol = context.protocol(split="eval", rows=len(context.dataset.eval), seed=context.config.seed)
    return [
        estimates.of_interval(context, SCORES[name], name, totals.bits_per_unit(), protocol)
        for name, totals in parts.items()
    ]


def _totals(context: Context, model: Model, part: int) -> Totals:
    """Return the nats of rate (0) or distortion (1) of every held-out row."""

    def nats(variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Tree]:
        assert model.rate_distortion is not None
        return model.rate_distortion(variables, batch, keys)[part], batch["carry"]

    step = functools.partial(context.progress, ("rate", "distortion")[part])
    return likelihood(
        model.replace(likelihood=nats),
        context.variables,
        context.dataset.eval,
        batch=context.config.batch,
        seed=context.config.seed,
        progress=step,
    )
