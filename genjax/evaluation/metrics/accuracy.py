"""Score samples by the labels that a classifier gives them: those asked for, and their variety."""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score

SCORES = {
    "conditional_accuracy": Definition(
        "Conditional accuracy",
        "higher",
        "controllability",
        "samples that the classifier sees as the class that was asked for",
    ),
    "effective_classes": Definition(
        "Classes in use", "higher", "diversity", "exp(entropy) of the classes that the classifier sees"
    ),
    "classes_found": Definition(
        "Classes found", "higher", "diversity", "classes that the classifier sees in at least one sample"
    ),
    "class_divergence": Definition(
        "Class divergence", "lower", "diversity", "divergence of the samples' classes from even use", "nats"
    ),
}
REQUIRES = Requirements(samples=True, classifier=True, labels=True)


def measure(context: Context) -> list[Score]:
    """Return the accuracy of samples that were given a label, and the classes in use.

    Classes that the model is never told are also counted, as in the test of mode collapse on stacked MNIST
    (Lin et al. 2018, arXiv:1712.04086, sec. 4.2: modes, and the reverse divergence from even use).
    """
    scores = []
    label = context.spec.label
    predicted = context.predicted
    if label in context.conditions:
        hits = int((predicted == context.conditions[label]).sum())
        interval = wilson(hits, len(predicted))
        name = "conditional_accuracy"
        protocol = context.reference.protocol()
        scores.append(estimates.of_interval(context, SCORES[name], name, interval, protocol))
    name = "effective_classes"
    classes = context.spec.classes()
    used = estimates.exact(effective_classes(predicted, classes))
    protocol = context.reference.protocol(classes=classes)
    scores.append(estimates.of_interval(context, SCORES[name], name, used, protocol))
    if label not in context.spec.conditions:
        protocol = context.reference.protocol(classes=classes, rows=len(predicted))
        found = {
            "classes_found": float(len(np.unique(predicted))),
            "class_divergence": float(np.log(classes / used.value)),
        }
        for name, value in found.items():
            exact = estimates.exact(value)
            scores.append(estimates.of_interval(context, SCORES[name], name, exact, protocol))
    return scores


def effective_classes(labels: np.ndarray, classes: int) -> float:
    """Compute exp(entropy) of the empirical distribution of labels: classes in even use, in [1, classes].

    Raises:
      ValueError: no labels.
    """
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("no labels")
    p = np.bincount(labels.astype(np.int64), minlength=classes) / labels.size
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
