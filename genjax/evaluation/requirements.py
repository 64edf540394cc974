"""State the requirements of a metric and check them against a context; no other code checks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genjax.evaluation.context import Context


@dataclasses.dataclass(frozen=True)
class Requirements:
    """State the requirements of a metric; False and None require nothing.

    Attributes:
      model: a model; such a metric is left out of the scores of real data (the floor).
      sampler: a model with a sampler.
      samples: sets of N rows: drawn by the model, or real held-out rows.
      features: an embedding: a feature extractor, or a raw array in its place.
      classifier: a feature extractor that predicts labels.
      likelihood: a model with a likelihood, and a main target whose kind defines its unit.
      codec: a model with a codec.
      codes: a model with a codec of one real-valued vector per row.
      factors: data whose factors of variation are known (`Spec.factors`).
      paired: data whose held-out targets are reference answers to the conditions of the same row.
      raw: a main target with a raw array.
      labels: data with a class label.
      kinds: kinds of the main target for which the metric is defined; None for any kind.
    """

    model: bool = False
    sampler: bool = False
    samples: bool = False
    features: bool = False
    classifier: bool = False
    likelihood: bool = False
    codec: bool = False
    codes: bool = False
    factors: bool = False
    paired: bool = False
    raw: bool = False
    labels: bool = False
    kinds: tuple[str, ...] | None = None

    def unmet(self, context: Context) -> str | None:
        """Return the first thing that the context lacks, in words; None if the metric applies."""
        for name, check in _CHECKS.items():
            reason = check(context) if getattr(self, name) else None
            if reason:
                return reason
        return self._unmet_kind(context)

    def _unmet_kind(self, context: Context) -> str | None:
        kind = context.element.kind if context.element else None
        if self.kinds is None or kind in self.kinds:
            return None
        return f"it is defined for targets of kind {' or '.join(self.kinds)}, and this one is of kind {kind}"


def _sampler(context: Context) -> str | None:
    if context.model is None:
        return "real rows have no sampler"
    return None if context.model.sample is not None else "the model has no sampler"


def _samples(context: Context) -> str | None:
    return None if context.real else _sampler(context)


def _likelihood(context: Context) -> str | None:
    if context.model is None or context.model.likelihood is None:
        return "the model has no likelihood"
    return None if context.unit else "the kind of the main target defines no unit of likelihood"


def _codec(context: Context) -> str | None:
    return None if context.model is not None and context.model.codec else "the model has no codec"


def _codes(context: Context) -> str | None:
    return _codec(context) or (None if context.code else "its codes are not one real-valued vector per row")


# Each check returns the reason why a requirement is not met, or None. Only required checks run: a likelihood
# alone must not build reference statistics.
_CHECKS: dict[str, Callable[[Context], str | None]] = {
    "model": lambda context: "real rows are not a model" if context.real else None,
    "sampler": _sampler,
    "samples": _samples,
    "likelihood": _likelihood,
    "codec": _codec,
    "codes": _codes,
    "factors": lambda context: None if context.spec.factors else "the data has no known factors",
    "paired": lambda context: (
        None if context.spec.paired or context.spec.held_pairs else "the held-out rows are not pairs"
    ),
    "labels": lambda context: None if context.spec.label else "the data has no class label",
    "raw": lambda context: None if context.reference.measurable else "the main target has no raw values",
    "features": lambda context: (
        None if context.reference.embeds else "the data has no features or raw values"
    ),
    "classifier": lambda context: None if context.classifies else "the feature extractor has no classifier",
}
