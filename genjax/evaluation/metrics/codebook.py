"""Score the codes of a discrete codec: bits per row, the share of codes in use, and their perplexity."""

from __future__ import annotations

import math

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "code_bits": Definition(
        "Bits per row", "lower", "cost", "length of a row's codes: log2 K for each", "bits"
    ),
    "code_use": Definition("Codes in use", "higher", "diversity", "share of the K codes that occur"),
    "code_perplexity": Definition(
        "Perplexity of the codes", "higher", "diversity", "exp of the entropy of the codes' frequencies"
    ),
}
REQUIRES = Requirements(model=True, codec=True)


def measure(context: Context) -> list[Score]:
    """Return the scores on the first N held-out rows; nothing for real-valued codes."""
    assert context.model is not None
    assert context.model.codec is not None
    spec = context.model.codec.spec(context.spec)
    if len(spec.targets) != 1 or not spec[spec.targets[0]].levels:
        return []
    name = spec.targets[0]
    levels = spec[name].levels or 1
    counts = np.bincount(context.coded[0][name].ravel(), minlength=levels)
    values = {
        "code_bits": math.prod(spec[name].shape) * math.log2(levels),
        "code_use": float((counts > 0).mean()),
        "code_perplexity": perplexity(counts),
    }
    # Not of the protocol: codecs with different K are what these scores compare.
    protocol = context.protocol(split="eval", rows=context.held)
    return [
        estimates.of_interval(context, SCORES[k], k, estimates.exact(v), protocol, codes=levels)
        for k, v in values.items()
    ]


def perplexity(counts: np.ndarray) -> float:
    """Compute exp of the entropy of the frequencies of codes (K,)."""
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-(p * np.log(p)).sum()))
