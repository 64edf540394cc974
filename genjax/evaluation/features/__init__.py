"""Build feature extractors by name: one file per extractor, found by genjax.plugins. Imports no jax.

An extractor is a module with `build(argument, request) -> Features`: a file of this package, or a dotted
module outside it. `evaluate.features` is "NAME" or "NAME:ARGUMENT", e.g. "pixels",
"classifier:digits/classifier" or "inception:/path/weights.safetensors".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from genjax import kinds, plugins
from genjax.spec import Spec

PACKAGE = "genjax.evaluation.features"


class Features(NamedTuple):
    """Map rows of one element to feature vectors.

    Attributes:
      embed: values as the data has them, e.g. images (B, H, W, C) uint8, -> features (B, D) float. Called
        with batches of one fixed size, so that a jitted function compiles once. The features of a row must
        not depend on the other rows.
      classify: values -> predicted labels (B,) int; None without a classifier.
      digest: identifies the weights and the preprocessing: equal if and only if the features are.
      description: one line for reports.
      accuracy: of `classify` on the evaluation split, in [0, 1]; None if not measured.
      element: name of the element that is embedded; empty for the main target.
      logits: values -> logits of the classes (B, K), differentiable; None without a classifier.
    """

    embed: Callable[[np.ndarray], np.ndarray]
    classify: Callable[[np.ndarray], np.ndarray] | None
    digest: str
    description: str
    accuracy: float | None = None
    element: str = ""
    logits: Callable[[Any], Any] | None = None

    def about(self) -> dict[str, Any]:
        """Return the description, digest and accuracy for reports, as plain data."""
        return {"description": self.description, "digest": self.digest, "accuracy": self.accuracy}


class Classifier(NamedTuple):
    """Hold a finished run that an extractor may use.

    Attributes:
      model: a genjax.core.Model with `predict`.
      variables: at the average to use, finished.
      name: of the run's config.
      step: of the checkpoint.
      digest: sha256 (hex) of the variables.
      dataset: that it was trained on; None for the one that is evaluated.
    """

    model: Any
    variables: Any
    name: str
    step: int
    digest: str
    dataset: Any = None


Train = Callable[[str, Mapping[str, Any]], Classifier]
"""(config name, fields of its data section) -> the run, trained now or restored if it exists. Runs are kept
under a digest of settings and data, so that all evaluations of a dataset share one."""


def _in_checkout(name: str) -> bool:
    """Return whether configs/<name>.py exists in the working directory or in the checkout of genjax."""
    roots = (Path.cwd(), Path(__file__).resolve().parents[3])
    return any((root / "configs" / f"{name}.py").is_file() for root in roots)


@dataclasses.dataclass(frozen=True)
class Request:
    """Hold the inputs from which an extractor is built.

    Attributes:
      dataset: with spec, train, eval, name, fingerprint and config (genjax.data.Dataset).
      element: name of the element to embed; None for data without a main target.
      cache: folder for files that an extractor keeps, such as converted weights.
      train: trains or restores a run by the name of its config; None if training is not possible.
      say: called with a line of text before something slow begins.
      exists: (config name) -> whether there is such a config.
    """

    dataset: Any
    element: str | None
    cache: Path
    train: Train | None = None
    say: Callable[[str], None] = lambda text: None
    exists: Callable[[str], bool] = _in_checkout


def names() -> list[str]:
    """Return the names of the extractors of this package."""
    return plugins.names(PACKAGE)


def build(name: str | None, request: Request) -> Features | None:
    """Build the extractor "NAME" or "NAME:ARGUMENT"; None chooses one (`default`).

    Returns:
      The extractor; None if none was named and the data has no raw array to measure distances in.

    Raises:
      ConfigError: no such extractor (names the nearest), or one that does not fit the data.
    """
    name = default(request) if name is None else name
    if name is None:
        return None
    return load(name).build(name.partition(":")[2], request)


def load(name: str) -> ModuleType:
    """Import the module of the extractor "NAME" or "NAME:ARGUMENT".

    Raises:
      ConfigError: no such extractor; names the nearest.
    """
    return plugins.load(PACKAGE, name.partition(":")[0], "feature extractor", ("build",))


def default(request: Request) -> str | None:
    """Return the dataset's own classifier if it has labels and a config, else the raw values, else None."""
    dataset = request.dataset
    if request.element is None or not measurable(dataset.spec, request.element):
        return None
    # "tfds:mnist" has its configs in configs/mnist.
    config = f"{dataset.name.rpartition(':')[2]}/classifier"
    if dataset.spec.label is not None and request.train is not None and request.exists(config):
        return f"classifier:{config}"
    return "pixels"


def measurable(spec: Spec, element: str | None = None) -> bool:
    """Return whether the kind of an element (of the main target if None) has a raw array.

    Distances between rows are measured in this array; text has none.
    """
    name = kinds.main_target(spec) if element is None else element
    kind = None if name is None else kinds.of(spec[name])
    if name is None or kind is None:
        return False
    zeros = {n: np.zeros((1, *e.shape), e.dtype) for n, e in spec.elements.items()}
    return kind.raw(kinds.Field(name, spec[name], zeros, special=spec.special)) is not None


def raw(dataset: Any, element: str, rows: Mapping[str, Any]) -> np.ndarray | None:
    """Return the raw array (N, D) float32 of an element in `rows`; None if its kind has none."""
    spec: Spec = dataset.spec
    kind = kinds.of(spec[element])
    if kind is None:
        return None
    tokenizer = getattr(dataset, "tokenizer", None)
    classes = getattr(dataset, "classes", ())
    return kind.raw(kinds.Field(element, spec[element], rows, tokenizer, classes, spec.special))
