"""Measure in the features of a small classifier, trained on the training split of the same data.

Where that data joins two domains, the classifier is trained on the dataset of the targets alone.

The classifier is an ordinary run (config, loop, checkpoint). One is kept for each pair of config and data, so
that all models compared on a dataset are measured in the same feature space.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.load import of_targets
from genjax.errors import ConfigError
from genjax.evaluation.batches import mapped
from genjax.evaluation.features import Classifier, Features, Request

BATCH = 64
"""Rows classified at once when the accuracy is measured."""
DATA_FIELDS = ("name", "size", "eval_fraction", "limit", "originals", "cache")
"""Fields of the data section that say which rows there are. The classifier's own config sets the others."""


def build(argument: str, request: Request) -> Features:
    """Train the classifier of the config named `argument` (or restore it) and use its last hidden layer.

    Args:
      argument: a config name with an optional size, e.g. "digits/classifier:smoke".

    Raises:
      ConfigError: no config named, data without a label, or a model without `predict`.
    """
    dataset = request.dataset
    label = dataset.spec.label
    if not argument:
        raise ConfigError(
            "features 'classifier' names no config", "e.g. evaluate.features=classifier:digits/classifier"
        )
    if request.element is None or label is None:
        raise ConfigError(f"features 'classifier' needs labels, and {dataset.name!r} has none", "use pixels")
    if request.train is None:
        raise ConfigError("features 'classifier' cannot be trained here", "use pixels")
    request.say(f"training the classifier {argument} in whose features samples are measured")
    return of_run(request.train(argument, _data(dataset)), dataset, request.element, label)


def _data(dataset: Any) -> dict[str, Any]:
    """Return the fields of the dataset's config that determine its rows."""
    config = dataclasses.asdict(dataset.config)
    fields = {name: config[name] for name in DATA_FIELDS if name in config}
    return {**fields, "name": of_targets(fields["name"])} if "name" in fields else fields


def of_run(trained: Classifier, dataset: Any, element: str, label: str) -> Features:
    """Return the extractor of a finished run of a classifier, with its accuracy on the evaluation split."""
    predict = trained.model.predict
    if predict is None:
        raise ConfigError(f"{trained.name!r} is not a classifier: it has no predict", "name another config")
    predict = jax.jit(predict)
    variables = trained.variables

    def outputs(values: np.ndarray | jax.Array) -> dict[str, jax.Array]:
        return predict(variables, {element: values, "mask": jnp.ones(len(values))})

    def embed(values: np.ndarray) -> np.ndarray:
        return np.asarray(outputs(values)["features"])

    def logits(values: jax.Array) -> jax.Array:
        return outputs(values)["logits"]

    def classify(values: np.ndarray) -> np.ndarray:
        return np.asarray(outputs(values)["logits"]).argmax(-1)

    # The classifier's own data: labels of two joined domains are not those of the targets.
    held = (trained.dataset or dataset).eval
    rows = held.rows(np.arange(len(held)))
    found = mapped(classify, rows[element], BATCH)
    return Features(
        embed=embed,
        classify=classify,
        logits=logits,
        digest=trained.digest,
        description=f"the layer before the logits of {trained.name}, step {trained.step}",
        accuracy=float((found == rows[label]).mean()),
        element=element,
    )
