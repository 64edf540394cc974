"""Score images that answer conditions by their structural similarity to the true targets."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates, similarity
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import of_ratio
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "ssim": Definition(
        "SSIM", "higher", "alignment", "structural similarity to the true targets of the conditions"
    )
}
REQUIRES = Requirements(model=True, samples=True, raw=True, paired=True, kinds=("image",))


def measure(context: Context) -> list[Score]:
    """Return the mean SSIM of the samples; its interval is over held-out rows."""
    assert context.target is not None
    samples = np.concatenate(context.raws)
    shape = (len(samples), *context.spec[context.target].shape)
    targets = context.reference.raw_of(context.targets)
    values = similarity.ssim(samples.reshape(shape), targets.reshape(shape))
    # Samples of the same condition are not independent: a held-out row is one trial, whatever its samples.
    rows = len(context.dataset.eval)
    totals = np.bincount(context.held_out, values, rows)
    interval = of_ratio(totals, np.bincount(context.held_out, minlength=rows))
    protocol = context.protocol(split="eval", samples=len(values), seed=context.config.seed)
    return [estimates.of_interval(context, SCORES["ssim"], "ssim", interval, protocol)]
