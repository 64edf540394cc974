"""Measure in the data's own values: pixels scaled to [0, 1], or points as they are."""

from __future__ import annotations

import numpy as np

from genjax.errors import ConfigError
from genjax.evaluation.features import Features, Request, measurable, raw


def build(argument: str, request: Request) -> Features:
    """Return an extractor whose features are the raw array of the kind of the element.

    Raises:
      ConfigError: an argument, or data without a raw array.
    """
    if argument:
        raise ConfigError(
            f"features 'pixels' takes no argument, got {argument!r}", "use evaluate.features=pixels"
        )
    dataset = request.dataset
    name = request.element
    if name is None or not measurable(dataset.spec, name):
        raise ConfigError(
            f"features 'pixels': the target of {dataset.name!r} has no raw values to measure distances in",
            "leave evaluate.features out for this dataset",
        )
    levels = dataset.spec[name].levels

    def embed(values: np.ndarray) -> np.ndarray:
        found = raw(dataset, name, {name: values})
        assert found is not None
        return found

    digest = f"pixels/{levels}" if levels else "raw values"
    description = "raw pixels in [0, 1]" if levels else "raw values"
    return Features(embed, None, digest, description, element=name)
