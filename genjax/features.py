"""The feature space in which images are judged: a small classifier, trained here and kept with its digest.

The classifier is an ordinary run (config, loop, checkpoint). One is kept for each pair of config and
data, so that all who are compared on a dataset are judged by the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import data, evaluation, run
from genjax.core import Variables
from genjax.evaluation.samples import mapped
from genjax.settings import Settings, complete, load
from genjax.training import checkpoint


def of(
    name: str | None, dataset: data.Dataset, root: Path, say: Callable[[str], None] = lambda text: None
) -> tuple[evaluation.Features | None, dict[str, Any]]:
    """The features of a dataset's images, and what is to be told of them.

    Args:
      name: a classifier's config; None for raw pixels (as where the data has no labels).
      dataset: whose training split it learns from.
      root: where the classifier's run lives: root/<name>-<digest>.

    Returns:
      (features, {"description", "digest", "accuracy" on the eval split or None}); (None, {}) where the
      data has no images.
    """
    if "image" not in dataset.spec:
        return None, {}
    if name is None or not dataset.spec.classes():
        return _pixels(dataset)
    raw = load(name)
    settings = complete({**raw, "data": {**raw.get("data", {}), **_where(dataset)}})
    directory = root / f"{settings.name}-{_digest(settings, dataset)[:12]}"
    say(f"training the classifier whose features judge the images ({directory})")
    run.train(settings, directory)
    trained = run.restore(directory)
    return _trained(trained, dataset)


def _where(dataset: data.Dataset) -> dict[str, Any]:
    """The fields of the data section that say which rows there are; the classifier's own say the batch."""
    config = dataclasses.asdict(dataset.config)
    return {k: config[k] for k in ("name", "size", "eval_fraction", "limit", "originals", "cache")}


def _digest(settings: Settings, dataset: data.Dataset) -> str:
    raw = json.dumps([settings.raw, dataset.fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(raw.encode()).hexdigest()


def _pixels(dataset: data.Dataset) -> tuple[evaluation.Features, dict[str, Any]]:
    levels = dataset.spec["image"].levels or 256

    def embed(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / (levels - 1)

    features = evaluation.Features(embed, None, f"pixels/{levels}", "raw pixels in [0, 1]")
    return features, {"description": features.description, "digest": features.digest, "accuracy": None}


def _trained(trained: run.Trained, dataset: data.Dataset) -> tuple[evaluation.Features, dict[str, Any]]:
    model = trained.experiment.model
    assert model.predict is not None, "a classifier predicts"
    predict = jax.jit(model.predict)
    variables: Variables = trained.variables.at("eval")

    def outputs(images: np.ndarray) -> dict[str, jax.Array]:
        return predict(variables, {"image": images, "mask": jnp.ones(len(images))})

    digest = checkpoint.digest(variables.replace(ema={}))

    def classify(images: np.ndarray) -> np.ndarray:
        return np.asarray(outputs(images)["logits"]).argmax(-1)

    features = evaluation.Features(
        embed=lambda images: np.asarray(outputs(images)["features"]),
        classify=classify,
        digest=digest,
        description=f"the layer before the logits of {trained.experiment.settings.name}, step {trained.step}",
    )
    rows = dataset.eval.rows(np.arange(len(dataset.eval)))
    found = mapped(classify, rows["image"], 64)
    accuracy = float((found == rows["label"]).mean())
    return features, {"description": features.description, "digest": digest, "accuracy": accuracy}
