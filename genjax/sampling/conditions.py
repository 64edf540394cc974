"""Build the conditions of samples: the only place where prompts are made.

The condition of sample i is row i of the held-out split (in order, and round again), or a value that its
kind defines for index i, such as a balanced class label. Training pictures, `genjax sample`, `evaluate` and
`compare` all use this function, so that sample i means the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genjax import kinds
from genjax.core import Batch
from genjax.spec import Spec


def prompts(dataset: Any, index: np.ndarray, labels: bool = True) -> Batch:
    """Return the conditions of samples `index` (B global indices), batch-first NumPy arrays.

    Args:
      dataset: whose spec and held-out rows (`eval`) give the conditions.
      labels: give conditions that a kind can define by itself. False leaves them out where every
        condition is of this sort; conditions from held-out rows are always given.
    """
    spec = dataset.spec
    if not needs_rows(spec):
        return defined(spec, index) if labels else {}
    rows = dataset.eval.rows(index % len(dataset.eval))
    # All conditions of a row belong together: a balanced label would contradict the row's caption.
    return {name: rows[name] for name in spec.conditions}


def needs_rows(spec: Spec) -> bool:
    """Return whether some condition has to come from held-out rows."""
    return len(defined(spec, np.zeros(1, np.int64))) < len(spec.conditions)


def defined(spec: Spec, index: np.ndarray) -> Batch:
    """Return the conditions that their kinds define for samples `index`."""
    found = {name: kind.prompts(spec[name], index) for name, kind in kinds.shown(spec, spec.conditions)}
    return {name: value for name, value in found.items() if value is not None}


def source(dataset: Any, labels: bool = True) -> str:
    """Return where `prompts` takes the conditions from, for the protocol of a score."""
    if needs_rows(dataset.spec):
        return "held-out rows"
    return "balanced labels" if labels and dataset.spec.conditions else "none"
