"""Score images that answer conditions by their peak signal-to-noise ratio to the true targets.

    PSNR = 10 log10(MAX^2 / MSE) dB        (Hore and Ziou 2010, "Image quality metrics: PSNR vs. SSIM", eq. 1)

MSE is the mean over the values of one image; the score is the mean of PSNR over images. MAX is 1, since the
raw array of an image holds values in [0, 1].
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import of_ratio
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "psnr": Definition(
        "PSNR",
        "higher",
        "alignment",
        "peak signal-to-noise ratio to the true targets of the conditions",
        "dB",
    )
}
REQUIRES = Requirements(model=True, samples=True, raw=True, paired=True, kinds=("image",))
MOST = 100.0
"""PSNR in dB of equal images, which has no finite value. One 8-bit value in 30,000 off by one has 93 dB."""


def measure(context: Context) -> list[Score]:
    """Return the mean PSNR of the samples; its interval is over held-out rows."""
    samples = np.concatenate(context.raws)
    values = psnr(samples, context.reference.raw_of(context.targets))
    # Samples of the same condition are not independent: a held-out row is one trial, whatever its samples.
    rows = len(context.dataset.eval)
    totals = np.bincount(context.held_out, values, rows)
    interval = of_ratio(totals, np.bincount(context.held_out, minlength=rows))
    protocol = context.protocol(split="eval", samples=len(values), most=MOST, seed=context.config.seed)
    return [estimates.of_interval(context, SCORES["psnr"], "psnr", interval, protocol)]


def psnr(samples: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute PSNR (N,) in dB of rows (N, D) in [0, 1], at most MOST.

    Raises:
      ValueError: the shapes differ.
    """
    if samples.shape != targets.shape:
        raise ValueError(f"samples {samples.shape} and targets {targets.shape} must have one shape")
    error = np.square(samples.astype(np.float64) - targets).mean(axis=1)
    return -10 * np.log10(np.maximum(error, 10 ** (-MOST / 10)))
