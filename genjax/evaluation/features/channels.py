"""Measure images whose channels are images of their own (stacked MNIST) by a classifier of one channel.

The class of an image is the number whose digits the channels show, the first channel first, in the base of
the classifier's classes; its features are those of all channels. The classifier is trained on the dataset of
the channels (`targets` of the source), which has one channel.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import ConfigError
from genjax.evaluation.batches import mapped
from genjax.evaluation.features import Features, Request, classifier

ROWS = 10_000
"""At most so many rows are classified when the accuracy is measured."""


def build(argument: str, request: Request) -> Features:
    """Train the classifier of the config named `argument` (or restore it) and apply it to each channel.

    Raises:
      ConfigError: no config named, data without labels or channels, or classes that do not fit them.
    """
    dataset = request.dataset
    one = classifier.build(argument, request)
    name = request.element or ""
    channels = dataset.spec[name].shape[-1] if len(dataset.spec[name].shape) == 3 else 0
    assert one.logits is not None
    probe = np.zeros((1, *dataset.spec[name].shape[:2], 1), np.uint8)
    base = int(one.logits(probe).shape[-1]) if channels else 0
    if not channels or base**channels != dataset.spec.classes():
        raise ConfigError(
            f"features 'channels': {channels} channels of {base} classes are not the "
            f"{dataset.spec.classes()} classes of {dataset.name!r}",
            "use it with stacked_mnist",
        )
    each = lambda values: [values[..., c : c + 1] for c in range(channels)]

    def embed(values: np.ndarray) -> np.ndarray:
        return np.concatenate([one.embed(x) for x in each(values)], -1)

    def logits(values: Any) -> jax.Array:
        """Return log p of every number: the sum of those of its digits."""
        assert one.logits is not None
        joint = jnp.zeros((len(values), 1))
        for x in each(values):
            log_p = jax.nn.log_softmax(one.logits(x), -1)
            joint = (joint[:, :, None] + log_p[:, None]).reshape(len(values), -1)
        return joint

    def classify(values: np.ndarray) -> np.ndarray:
        return np.asarray(logits(values)).argmax(-1)

    held = dataset.eval.rows(np.arange(min(len(dataset.eval), ROWS)))
    found = mapped(classify, held[name], classifier.BATCH)
    return Features(
        embed=embed,
        classify=classify,
        logits=logits,
        digest=one.digest,
        description=f"each channel: {one.description}",
        accuracy=float((found == held[dataset.spec.label or ""]).mean()),
        element=name,
    )
