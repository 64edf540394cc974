"""Score the middles of paths between held-out rows in a latent space.

A path stays on the data if its middle looks like a row: the Fréchet distance between middles and training
rows is small, and a classifier is certain of their class. The detail of each score has the same figure for
middles of straight lines between the rows themselves (in pixel space, of images): a double exposure.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genjax import latents
from genjax.evaluation import estimates, frechet
from genjax.evaluation.batches import Columns
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import of_ratio
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "midpoint_frechet": Definition(
        "Fréchet distance of midpoints",
        "lower",
        "coherence",
        "squared Fréchet distance between middles of paths in the latent space and training rows",
    ),
    "midpoint_entropy": Definition(
        "Entropy of midpoints",
        "lower",
        "coherence",
        "entropy of the classifier's prediction at middles of paths in the latent space, mean",
        "nats",
    ),
}
REQUIRES = Requirements(model=True, codes=True, features=True, raw=True, kinds=("image",))


def measure(context: Context) -> list[Score]:
    """Return the scores of great circles between the first N held-out rows, each to another of them."""
    middles = _middles(context)
    lines = _lines(context)
    protocol = context.reference.protocol(rows=context.held, path="slerp")
    features = [context.reference.embed(x, "features of midpoints") for x in (middles, lines)]
    distance = [frechet.distance(context.reference.moments, frechet.Moments.of(x)) for x in features]
    found = {"midpoint_frechet": (estimates.exact(distance[0]), distance[1])}
    if context.classifies:
        entropies = [context.reference.entropies(x, "labels of midpoints") for x in (middles, lines)]
        own = of_ratio(entropies[0], np.ones(len(entropies[0])))
        found["midpoint_entropy"] = (own, float(entropies[1].mean()))
    return [
        estimates.of_interval(context, SCORES[name], name, interval, protocol, straight_lines=line)
        for name, (interval, line) in found.items()
    ]


def _partners(context: Context) -> np.ndarray:
    """Return another held-out row for each of the first N: their order moved on by a half."""
    return np.roll(np.arange(context.held), context.held // 2)


def _middles(context: Context) -> Columns:
    """Return the decoded middles of the paths, under the conditions of their first rows."""
    codes = jnp.asarray(context.codes, jnp.float32)
    middle = latents.along(codes, codes[_partners(context)], jnp.asarray([0.5]))[:, 0]
    rows = context.dataset.eval.rows(np.arange(context.held))
    given = {name: rows[name] for name in context.spec.conditions}
    return context.decode(np.asarray(middle), given, "midpoints")


def _lines(context: Context) -> Columns:
    """Return the means of the rows themselves, rounded."""
    assert context.target is not None
    rows = context.dataset.eval.rows(np.arange(context.held))[context.target].astype(np.float64)
    mean = (rows + rows[_partners(context)]) / 2
    return {context.target: np.round(mean).astype(context.dataset.spec[context.target].dtype)}
