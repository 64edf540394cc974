"""Train a classifier on samples and test it on real rows.

The classification accuracy score of Ravuri & Vinyals 2019 (arXiv:1905.10887), with a support vector machine
of raw values in the place of a deep network. It falls if samples miss modes, look wrong or have the wrong
class.
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "synthetic_accuracy": Definition(
        "Train on samples, test on real rows",
        "higher",
        "diversity",
        "held-out rows that a classifier trained on samples alone gives their class",
    )
}
REQUIRES = Requirements(model=True, samples=True, raw=True, labels=True, kinds=("image",))
MOST = 5000
"""Samples to train on."""
C = 10.0
"""Of the support vector machine: the weight of errors."""


def measure(context: Context) -> list[Score]:
    """Return the accuracy; the detail `real` is that after training on as many real training rows.

    Nothing if the sampler is not given the class.
    """
    label = context.spec.label
    if label is None or label not in context.conditions:
        return []
    count = min(context.count, MOST, len(context.dataset.train))
    held = context.dataset.eval.rows(np.arange(len(context.dataset.eval)))
    real = context.dataset.train.rows(np.arange(count))
    test = context.reference.raw_of(held)
    samples = np.concatenate(context.raws)[:count]
    right = classified(samples, context.conditions[label][:count], test) == held[label]
    other = classified(context.reference.raw_of(real), real[label], test) == held[label]
    protocol = context.protocol(split="eval", samples=count, seed=context.config.seed, C=C)
    name = "synthetic_accuracy"
    interval = wilson(int(right.sum()), len(right))
    detail = {"real": float(other.mean())}
    return [estimates.of_interval(context, SCORES[name], name, interval, protocol, **detail)]


def classified(rows: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the labels (M,) that a classifier trained on rows (N, D) gives to others (M, D)."""
    from sklearn.svm import SVC

    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2:
        return np.full(len(test), labels[0])
    return SVC(C=C).fit(rows, labels).predict(test)
