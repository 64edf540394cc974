"""Turn the text on both sides of a gap into a prompt."""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax import kinds
from genjax.config import Count, coerce
from genjax.core import Batch
from genjax.errors import ConfigError
from genjax.workflows.assemble import Trained


def gap(
    trained: Trained, conditions: Batch | None, num: int, size: int, suffix: str | None
) -> tuple[Batch, int]:
    """Return the prompt with `size` mask tokens behind it and then the suffix, and the number of all tokens.

    Args:
      conditions: of `num` samples, with the text before the gap if there is one.
      suffix: the text behind the gap; None for none.

    Raises:
      ConfigError: the model fills no masks, the suffix is empty, or the data is not running text.
    """
    coerce(Count, size, "--gap")
    if suffix == "":
        raise ConfigError("--suffix is empty", "leave it out for a gap at the end")
    experiment = trained.experiment
    dataset = experiment.dataset
    if experiment.model.mask is None:
        raise ConfigError(
            f"--gap: the model {experiment.settings.model_name!r} does not fill gaps in a text",
            "use a model that reads both sides of a gap, such as bert",
        )
    running = [(n, kind) for n, kind in kinds.shown(dataset.spec, dataset.spec.targets) if kind.RUNNING]
    if not running:
        raise ConfigError(f"--gap: {dataset.name} is not text", "leave it out")
    name, kind = running[0]
    parts = [np.full((num, size), experiment.model.mask, np.int32)]
    given: dict[str, Any] = dict(conditions or {})
    if name in given:
        parts.insert(0, np.asarray(given[name]))
    if suffix is not None:
        parts.append(kind.parse(suffix, name, dataset.spec[name], num, dataset)[name])
    row = np.concatenate(parts, axis=1)
    return {**given, name: row}, row.shape[1]
