"""Score edits in a latent space: held-out rows are moved to another class, and a classifier judges.

A row's code is moved by optimal transport between Gaussians of the codes of both classes, which are those of
training rows (latents.edited). Where the decoder reads the class, it is given the new one.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genjax import latents
from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

LEARNED = 5000
"""Training rows from which the Gaussians of the classes are computed."""
SCORES = {
    "edit_success": Definition(
        "Edits that succeed",
        "higher",
        "controllability",
        "held-out rows, moved to another class in the latent space, that the classifier takes for that class",
    )
}
REQUIRES = Requirements(model=True, codes=True, classifier=True, labels=True)


def measure(context: Context) -> list[Score]:
    """Return the share of the first N held-out rows whose edit succeeds."""
    label = context.spec.label
    assert label is not None
    classes = context.spec.classes()
    rows = context.dataset.eval.rows(np.arange(context.held))
    source = rows[label].astype(np.int64)
    # Each row moves to one of the other classes, drawn uniformly.
    away = np.random.default_rng(context.config.seed).integers(1, classes, len(source))
    target = (source + away) % classes
    gaussians = _gaussians(context, label, classes)
    codes = latents.edited(
        jnp.asarray(context.codes, jnp.float32), gaussians, jnp.asarray(source), jnp.asarray(target)
    )
    given = {
        **{name: rows[name] for name in context.spec.conditions},
        label: target.astype(rows[label].dtype),
    }
    decoded = context.decode(np.asarray(codes), given, "edits")
    hits = int((context.reference.classify(decoded, "labels of the edits") == target).sum())
    protocol = context.reference.protocol(rows=context.held, learned_from=LEARNED, seed=context.config.seed)
    interval = wilson(hits, len(target))
    return [estimates.of_interval(context, SCORES["edit_success"], "edit_success", interval, protocol)]


def _gaussians(context: Context, label: str, classes: int) -> latents.Moments:
    """Return the Gaussian of the codes of each class, from training rows."""
    count = min(LEARNED, len(context.dataset.train))
    codes = []
    values = []
    for start in range(0, count, context.config.batch):
        # Whole batches: the last one begins earlier, so that one program encodes all.
        first = max(0, min(start, count - context.config.batch))
        index = np.arange(first, min(first + context.config.batch, count))
        rows = context.dataset.train.rows(index)
        codes.append(np.asarray(context.space.encode(rows))[start - first :])
        values.append(rows[label][start - first :])
    return latents.moments(
        jnp.asarray(np.concatenate(codes)), jnp.asarray(np.concatenate(values), jnp.int32), classes
    )
