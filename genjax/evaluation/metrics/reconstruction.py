"""Score the images that a codec decodes from the codes of held-out images.

PSNR and SSIM compare each image with itself. The Fréchet distance compares the decoded images with the
training rows, as that of samples does: it shows blur that is small in every pixel.
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates, frechet, similarity
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import of_ratio
from genjax.evaluation.metrics.psnr import MOST, psnr
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "reconstruction_psnr": Definition(
        "PSNR of reconstructions",
        "higher",
        "realism",
        "peak signal-to-noise ratio to the encoded images",
        "dB",
    ),
    "reconstruction_ssim": Definition(
        "SSIM of reconstructions", "higher", "realism", "structural similarity to the encoded images"
    ),
    "reconstruction_frechet": Definition(
        "Fréchet distance of reconstructions",
        "lower",
        "realism",
        "squared Fréchet distance between decoded held-out images and training rows",
    ),
}
REQUIRES = Requirements(model=True, codec=True, raw=True, features=True, kinds=("image",))


def measure(context: Context) -> list[Score]:
    """Return the three scores of the first N held-out images."""
    assert context.target is not None
    decoded = context.coded[1]
    real = context.dataset.eval.rows(np.arange(context.held))
    pair = [context.reference.raw_of(x) for x in (decoded, real)]
    shape = (context.held, *context.spec[context.target].shape)
    protocol = context.protocol(split="eval", rows=context.held)
    each = {
        "reconstruction_psnr": (psnr(*pair), {"most": MOST}),
        "reconstruction_ssim": (similarity.ssim(*(x.reshape(shape) for x in pair)), {}),
    }
    scores = [
        estimates.of_interval(
            context, SCORES[name], name, of_ratio(values, np.ones(len(values))), {**protocol, **more}
        )
        for name, (values, more) in each.items()
    ]
    statistic = lambda x: (frechet.distance(context.reference.moments, frechet.Moments.of(x)),)
    one = {"reconstruction_frechet": SCORES["reconstruction_frechet"]}
    embedded = [context.reference.embed(decoded, "features of the reconstructions")]
    return scores + estimates.of_sets(context, one, statistic, embedded, "reconstructions", rows=context.held)
