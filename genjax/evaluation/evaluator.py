"""Scores of a model, and of the real data beside it (the floor), under one protocol.

    ruler = Ruler(dataset, features, config)          # once for a table: see evaluation/ruler.py
    scores, samples = evaluate(model, variables, dataset, features, config, knobs, ruler=ruler)
    table({"real data": floor(dataset, features, config, ruler=ruler), "vae": scores, ...})

What does not apply to a model (no sampler, no likelihood) or to the data (no images) is left out, never
filled in: such a row has no cell in that column.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from genjax.core import Model, Variables
from genjax.errors import ConfigError
from genjax.evaluation import cost, diversity, flops
from genjax.evaluation.config import Config, Features
from genjax.evaluation.intervals import Interval, wilson
from genjax.evaluation.likelihood import likelihood
from genjax.evaluation.ruler import Report, Ruler, data_protocol, element_of
from genjax.evaluation.samples import Columns, Sampler, mapped, prompt
from genjax.evaluation.scores import Scalar, Score

OF_SAMPLES = frozenset(("frechet", "kid", "prdc", "accuracy", "diversity", "neighbours", "modes"))
"""The metrics that need samples."""

LIKELIHOODS = (
    ("target", "nats_per_token", "per_unit", "coherence", "nats"),
    ("tokens", "nats_per_token", "per_unit", "coherence", "nats"),
    ("roll", "nats_per_frame", "per_unit", "coherence", "nats"),
    ("image", "bits_per_dim", "bits_per_unit", "realism", "bits"),
    ("point", "nats_per_dim", "per_unit", "realism", "nats"),
)
"""By the element that the data has, the first that fits: a score's name, average, criterion and unit."""


def evaluate(
    model: Model,
    variables: Variables,
    dataset: Any,
    features: Features | None,
    config: Config,
    knobs: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    *,
    ruler: Ruler | None = None,
    train_seconds: float | None = None,
) -> tuple[list[Score], Columns]:
    """All scores of one model, and the samples that they are of.

    Args:
      variables: as the checkpoint has them: the average is chosen and model.finish applied here, once.
      dataset: a genjax.data.Dataset.
      features: of images; None measures raw values.
      knobs: of model.sample: static; kept in each score's detail as "knob.<name>".
      progress: called with (stage, done, total).
      ruler: of this dataset, features and config, where it has been made already.
      train_seconds: what training took, for the cost.

    Returns:
      (scores, samples {element: (sets * N, ...)}, empty for a model without a sampler). Sample i is a
      function of the seed, i and the weights: the same whatever config.batch is.

    Raises:
      ConfigError: the protocol does not fit the data.
      NonFiniteError: samples or likelihoods that are not finite.
    """
    report = progress or (lambda stage, done, total: None)
    knobs = dict(knobs or {})
    average = config.average if config.average in variables.ema else None
    learned = variables.at(average)
    variables = jax.jit(model.finish)(learned)
    detail: dict[str, Scalar] = {"weights": average or "last"}
    plain = (str, int, float, bool, type(None))
    detail |= {f"knob.{k}": v if isinstance(v, plain) else str(v) for k, v in knobs.items()}
    condition = conditioned(dataset.spec, config)
    scores: list[Score] = []
    samples: Columns = {}
    sampler = None
    if model.sample is not None and OF_SAMPLES & {*config.metrics}:
        sampler = Sampler(
            model,
            variables,
            dataset,
            batch=config.batch,
            knobs=knobs,
            condition=condition,
            seed=config.seed,
        )
        labelled = "balanced labels" if condition and dataset.spec.classes() else "none"
        detail["prompt"] = "held-out sources" if "source" in dataset.spec else labelled
        step = functools.partial(report, "samples")
        if element_of(dataset.spec) is None:
            samples = sampler.draw(config.batch, progress=step)
        else:
            ruler = ruler or Ruler(dataset, features, config, progress)
            samples = sampler.draw(config.sets * ruler.size, progress=step)
            starts = range(0, config.sets * ruler.size, ruler.size)
            sets = [{k: v[i : i + ruler.size] for k, v in samples.items()} for i in starts]
            scores += ruler.measure(sets, detail)
            scores += _labelled(ruler, samples, detail, condition)
    scores += _likelihoods(model, variables, dataset, config, detail, report)
    training = cost.training_flops(model, learned, dataset.spec) if "cost" in config.metrics else None
    scores += _costs(
        model, variables, dataset, config, knobs, detail, report, sampler, train_seconds, training
    )
    return scores, samples


def floor(
    dataset: Any,
    features: Features | None,
    config: Config,
    progress: Report | None = None,
    *,
    ruler: Ruler | None = None,
) -> list[Score]:
    """The same scores of held-out real data: sets of N eval rows against the same reference.

    Raises:
      ConfigError: the eval split has fewer than N rows, so that no floor at this N exists.
    """
    if element_of(dataset.spec) is None or not OF_SAMPLES & {*config.metrics}:
        return []
    ruler = ruler or Ruler(dataset, features, config, progress)
    rows, size = len(dataset.eval), ruler.size
    if rows < size:
        raise ConfigError(
            f"a floor of {size} real rows needs as many held-out ones; the eval split has {rows}",
            f"set evaluate.samples to {rows} or less, or leave the floor out",
        )
    count = min(config.sets, rows // size)
    order = np.random.default_rng(config.seed).permutation(rows)
    sets = [dataset.eval.rows(np.sort(order[i * size : (i + 1) * size])) for i in range(count)]
    detail: dict[str, Scalar] = {"weights": "real data", "prompt": "the data's own labels"}
    joined = {k: np.concatenate([s[k] for s in sets]) for k in sets[0]}
    return ruler.measure(sets, detail, fresh=False) + _labelled(
        ruler, joined, detail, "label" in dataset.spec
    )


def conditioned(spec: Any, config: Config) -> bool:
    """Whether labels are given as the prompt."""
    if config.condition is not None:
        return config.condition and spec.classes() > 0
    return "image" in spec and spec.classes() > 0


def _labelled(ruler: Ruler, samples: Columns, detail: dict[str, Scalar], condition: bool) -> list[Score]:
    """Scores that need classes: accuracy of what was asked for, classes in use, modes reached."""
    scores: list[Score] = []
    metrics, spec, features = ruler.config.metrics, ruler.dataset.spec, ruler.features
    if (
        "accuracy" in metrics
        and features
        and features.classify
        and spec.classes()
        and ruler.element == "image"
    ):
        step = functools.partial(ruler.progress, "labels of the samples")
        predicted = mapped(features.classify, samples["image"], ruler.config.batch, step)
        if condition:
            hits = wilson(int((predicted == samples["label"]).sum()), len(predicted))
            scores.append(
                _score("conditional_accuracy", hits, "higher", "controllability", ruler.protocol(), detail)
            )
        used = Interval(diversity.effective_classes(predicted, spec.classes()), None, None, "none")
        protocol = ruler.protocol(classes=spec.classes())
        scores.append(_score("effective_classes", used, "higher", "diversity", protocol, detail))
    if "modes" in metrics and ruler.element == "point" and spec.classes():
        scores += _modes(ruler, samples["point"], detail)
    return scores


def _modes(ruler: Ruler, points: np.ndarray, detail: dict[str, Scalar]) -> list[Score]:
    """Modes are the labelled components of the training points: their means and common deviation."""
    label, x = ruler.train["label"], np.asarray(ruler.train["point"], np.float64)
    centres = np.stack([x[label == c].mean(0) for c in np.unique(label)])
    spread = np.concatenate([x[label == c] - x[label == c].mean(0) for c in np.unique(label)])
    m = diversity.modes(points, centres, float(spread.std()))
    protocol = ruler.protocol(modes=m.total, within="3 standard deviations", points=len(points))
    good = wilson(round(m.high_quality * len(points)), len(points))
    exact = functools.partial(Interval, low=None, high=None, method="none")
    return [
        _score("modes_found", exact(m.found), "higher", "diversity", protocol, detail),
        _score("mode_divergence", exact(m.divergence), "lower", "diversity", protocol, detail, "nats"),
        _score("high_quality", good, "higher", "realism", protocol, detail),
    ]


def _score(
    name: str, i: Interval, better: Any, criterion: Any, protocol: Any, detail: Any, unit: str = ""
) -> Score:
    detail = {**detail, "interval": i.method}
    return Score(name, i.value, i.low, i.high, better, criterion, unit, protocol, detail)


def _likelihoods(
    model: Model,
    variables: Variables,
    dataset: Any,
    config: Config,
    detail: dict[str, Scalar],
    report: Report,
) -> list[Score]:
    if model.likelihood is None or "likelihood" not in config.metrics:
        return []
    step = functools.partial(report, "likelihood")
    totals = likelihood(model, variables, dataset.eval, batch=config.batch, seed=config.seed, progress=step)
    kind = model.likelihood_kind
    protocol: dict[str, Scalar] = {
        **data_protocol(dataset), "split": "eval", "rows": len(dataset.eval), "kind": kind, "seed":
        config.seed
    }  # fmt: skip
    detail = {**detail, "context": "all before it" if totals.carried else "its row alone"}
    name, value, criterion, unit = next(
        (of, getattr(totals, how)(), criterion, unit)
        for element, of, how, criterion, unit in LIKELIHOODS
        if element in dataset.spec
    )
    return [_score(f"{name}/{kind}", value, "lower", criterion, protocol, detail, unit)]


def _costs(
    model: Model,
    variables: Variables,
    dataset: Any,
    config: Config,
    knobs: Mapping[str, Any],
    detail: dict[str, Scalar],
    report: Report,
    sampler: Sampler | None,
    train_seconds: float | None,
    train: flops.Flops | None,
) -> list[Score]:
    data, scores = data_protocol(dataset), []

    def add(
        name: str, value: float, unit: str, protocol: Mapping[str, Scalar], better: Any = "lower", **more: Any
    ):
        everything = {**detail, **more}
        scores.append(Score(name, value, None, None, better, "cost", unit, {**data, **protocol}, everything))

    if train is not None:
        report("cost", 0, 1)
        sizes = cost.parameters(variables)
        each = {f"numbers.{k}": v for k, v in sizes.items()}
        learned = sum(v for k, v in sizes.items() if k != "state")
        add("parameters", learned, "", {"counted": "learned by gradient"}, **each)
        counted = {"convention": flops.CONVENTION}
        add("train_flops", train.total, "FLOP/example", counted, warnings="; ".join(train.warnings))
        if model.sample is not None:
            given = prompt(dataset, np.arange(8), conditioned(dataset.spec, config))
            drawn = cost.sampling_flops(model, variables, given, knobs, batch=8)
            add("sample_flops", drawn.total, "FLOP/sample", counted, warnings="; ".join(drawn.warnings))
        if train_seconds is not None:
            add("train_seconds", train_seconds, "s", cost.machine())
        report("cost", 1, 1)
    if "speed" in config.metrics and model.sample is not None:
        condition = conditioned(dataset.spec, config)
        for i, batch in enumerate(config.speed_batches):
            report("speed", i, len(config.speed_batches))
            program = sampler.compiled if sampler and sampler.batch == batch else None
            given = lambda n: prompt(dataset, np.arange(n), condition)
            s = cost.speed(
                model,
                variables,
                given,
                knobs,
                batch,
                repeats=config.repeats,
                seed=config.seed,
                compiled=program,
            )
            protocol = {**cost.machine(), "batch": batch}
            spread = {"slowest": s.slowest, "fastest": s.fastest, "repeats": config.repeats}
            add(f"samples_per_second_{batch}", s.per_second, "1/s", protocol, "higher", **spread)
            if s.memory is not None:
                peak = {"device_peak_bytes": cost.device_memory_peak()}
                add(f"sample_memory_{batch}", s.memory, "B", {**protocol, "method": s.method}, **peak)
    return scores
