"""Score translated images by the class that a classifier of the target domain sees in them.

No translation reads the class of its source. Whether a classifier that knows only the target domain still
sees it is the usual score of adaptation between domains (Hoffman et al. 2018, CyCADA, arXiv:1711.03213,
sec. 4).
"""

from __future__ import annotations

import numpy as np

from genjax.evaluation import estimates
from genjax.evaluation.context import Context
from genjax.evaluation.intervals import wilson
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Definition, Score
from genjax.sampling import conditions

SCORES = {
    "translated_accuracy": Definition(
        "Accuracy on translations",
        "higher",
        "alignment",
        "samples in which a classifier of the targets sees the class of their source",
    )
}
REQUIRES = Requirements(model=True, samples=True, classifier=True, labels=True, kinds=("image",))


def measure(context: Context) -> list[Score]:
    """Return the accuracy; the detail `untranslated` is that on the sources themselves.

    Nothing if the label is given to the sampler, or no condition comes from held-out rows.
    """
    label = context.spec.label
    if label is None or label in context.spec.conditions or not conditions.needs_rows(context.spec):
        return []
    truth = context.dataset.eval.rows(context.held_out)[label]
    hits = int((context.predicted == truth).sum())
    detail = {}
    rows = context.dataset.eval.rows(np.arange(len(context.dataset.eval)))
    for name in context.spec.conditions:
        assert context.target is not None
        if context.spec[name].shape == context.spec[context.target].shape:
            seen = context.reference.classify({context.target: rows[name]})
            detail["untranslated"] = float((seen == rows[label]).mean())
    protocol = context.reference.protocol()
    name = "translated_accuracy"
    return [estimates.of_interval(context, SCORES[name], name, wilson(hits, len(truth)), protocol, **detail)]
