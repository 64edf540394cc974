"""Provide the inputs of metrics: a model with its samples, or real held-out rows. Lazy; computed once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import kinds
from genjax.core import Element, Model, Spec, Variables
from genjax.errors import ConfigError, nearest
from genjax.evaluation.batches import Columns
from genjax.evaluation.config import Config
from genjax.evaluation.features import Features
from genjax.evaluation.reference import ReferenceStatistics, Report, data_protocol, distinct
from genjax.evaluation.scores import Scalar
from genjax.latents import Space
from genjax.sampling import conditions
from genjax.sampling.sampler import Sampler


class Context:
    """Hold a model, its data and its samples for metrics; without a model, real held-out rows as sets.

    Args:
      dataset: a genjax.data.Dataset.
      features: an extractor; None measures raw values.
      config: the protocol.
      model: None for real rows.
      variables: as a checkpoint has them: the average is chosen and `model.finish` applied here, once.
      options: of model.sample; static; kept in each score's detail as "option.<name>".
      reference: of this dataset, features and config, if it exists already.
      progress: called with (stage, done, total).
      train_seconds: duration of training, for its cost.

    Raises:
      ConfigError: the weights have averages, and config.average is not among them.
    """

    def __init__(
        self,
        dataset: Any,
        features: Features | None,
        config: Config,
        *,
        model: Model | None = None,
        variables: Variables | None = None,
        options: Mapping[str, Any] | None = None,
        reference: ReferenceStatistics | None = None,
        progress: Report | None = None,
        train_seconds: float | None = None,
    ):
        self.dataset = dataset
        self.features = features
        self.config = config
        self.model = model
        self.options = dict(options or {})
        self.train_seconds = train_seconds
        self.progress = progress or (lambda stage, done, total: None)
        self._reference = reference
        self._average = None if variables is None else chosen_average(variables, config.average)
        self._learned = variables

    @property
    def spec(self) -> Spec:
        """The spec of the data."""
        return self.dataset.spec

    @property
    def real(self) -> bool:
        """Return whether the rows are real held-out ones and there is no model."""
        return self.model is None

    @property
    def labels(self) -> bool:
        """Return whether class labels are given to the sampler."""
        return self.config.labels is not False

    @functools.cached_property
    def target(self) -> str | None:
        """The name of the main target, which metrics of one array measure."""
        return kinds.main_target(self.spec)

    @property
    def element(self) -> Element | None:
        """The form of the main target."""
        return None if self.target is None else self.spec[self.target]

    @property
    def unit(self) -> kinds.Unit | None:
        """The unit of a likelihood of the main target; None if its kind defines none."""
        kind = None if self.element is None else kinds.of(self.element)
        return None if kind is None else kind.UNIT

    @property
    def classifies(self) -> bool:
        """Return whether the feature extractor predicts labels."""
        return self.features is not None and self.features.classify is not None

    @functools.cached_property
    def reference(self) -> ReferenceStatistics:
        """The statistics of the reference rows: the shared ones, or new ones."""
        return self._reference or ReferenceStatistics(self.dataset, self.features, self.config, self.progress)

    @functools.cached_property
    def learned(self) -> Variables:
        """The variables at the evaluated average, before `model.finish`, as training sees them."""
        assert self._learned is not None
        return self._learned.at(self._average)

    @functools.cached_property
    def variables(self) -> Variables:
        """The variables at the evaluated average, finished, as sampling and likelihoods use them."""
        assert self.model is not None
        return jax.jit(self.model.finish)(self.learned)

    @functools.cached_property
    def sampler(self) -> Sampler:
        """The sampler of the model with these options, compiled once for each form of prompt."""
        assert self.model is not None
        return Sampler(
            self.model,
            self.dataset,
            batch=self.config.batch,
            given=self.options,
            labels=self.labels,
            seed=self.config.seed,
        )

    def draw(self, count: int) -> Columns:
        """Draw samples 0 .. count: {element of the data: (count, ...)}, with the conditions given to them."""
        step = functools.partial(self.progress, "samples")
        # Compiled ahead of time and kept: the speed at this batch size is measured on the same program.
        self.sampler.compiled(self.variables)
        found = self.sampler.draw(self.variables, count, progress=step)
        return {name: x for name, x in found.items() if name in self.spec}

    @functools.cached_property
    def sets(self) -> list[Columns]:
        """Independent sets of N rows: consecutive samples, or disjoint sets of held-out rows.

        Raises:
          ConfigError: real rows are asked for, and the eval split has fewer than N.
          NonFiniteError: a sample is not finite.
        """
        size = self.reference.size
        if self.real:
            return _held_out(self.dataset, size, self.config)
        count = self.config.sets
        if self.model is not None and self.model.deterministic:
            # A condition that came again would give the same sample again.
            count = min(count, max(len(self.dataset.eval) // size, 1))
        samples = self.draw(count * size)
        starts = range(0, count * size, size)
        return [{name: x[i : i + size] for name, x in samples.items()} for i in starts]

    @functools.cached_property
    def samples(self) -> Columns:
        """The rows of all sets, in order."""
        return {name: np.concatenate([s[name] for s in self.sets]) for name in self.sets[0]}

    @functools.cached_property
    def count(self) -> int:
        """The number of rows of all sets."""
        return sum(len(next(iter(s.values()))) for s in self.sets)

    @functools.cached_property
    def embeddings(self) -> list[np.ndarray]:
        """The features (N, D) of each set."""
        return [self.reference.embed(s) for s in self.sets]

    @functools.cached_property
    def raws(self) -> list[np.ndarray]:
        """The raw array (N, D) of each set."""
        return [self.reference.raw_of(s) for s in self.sets]

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """The labels (rows of all sets,) that the extractor's classifier predicts."""
        return self.reference.classify(self.samples)

    @functools.cached_property
    def conditions(self) -> Columns:
        """The conditions of the rows of all sets: those given to the sampler, or the real rows' own."""
        if self.real:
            return {name: self.samples[name] for name in self.spec.conditions}
        return conditions.prompts(self.dataset, np.arange(self.count), self.labels)

    @functools.cached_property
    def held_out(self) -> np.ndarray:
        """For paired data, the held-out row (rows of all sets,) whose conditions each sample was given."""
        return np.arange(self.count) % len(self.dataset.eval)

    @functools.cached_property
    def targets(self) -> Columns:
        """For paired data, the true targets of the samples' conditions: {target: (rows of all sets, ...)}."""
        rows = self.dataset.eval.rows(self.held_out)
        return {name: rows[name] for name in self.spec.targets}

    @functools.cached_property
    def code(self) -> str | None:
        """The name of the codec's codes, if they are one real-valued vector (D,) per row."""
        if self.model is None or self.model.codec is None:
            return None
        spec = self.model.codec.spec(self.spec)
        found = [n for n in spec.targets if spec[n].levels is None and len(spec[n].shape) == 1]
        return found[0] if len(spec.targets) == len(found) == 1 else None

    @functools.cached_property
    def held(self) -> int:
        """N, the number of held-out rows that a codec is measured on: the first ones."""
        return min(self.config.set_size(len(self.dataset.eval)), len(self.dataset.eval))

    @functools.cached_property
    def coded(self) -> tuple[Columns, Columns]:
        """The codes of the first N held-out rows, and what they are decoded as: columns of each.

        Codes are drawn by no key: they are the means of a posterior, where there is one.
        """
        assert self.model is not None
        codec = self.model.codec
        assert codec is not None
        names = codec.spec(self.spec).targets

        def both(variables: Variables, batch: Columns) -> tuple[Columns, Columns]:
            codes = codec.encode(variables, batch)
            rows = codec.decode(variables, codes)
            return {n: codes[n] for n in names}, {n: rows[n] for n in self.spec.targets}

        call = jax.jit(both)
        stream = self.dataset.eval.stream(order="once", batch=self.config.batch)
        parts = []
        for i in range(-(-self.held // self.config.batch)):
            parts.append(jax.device_get(call(self.variables, stream[i])))
            self.progress("codes", min((i + 1) * self.config.batch, self.held), self.held)
        codes, rows = (
            jax.tree.map(lambda *x: np.concatenate(x)[: self.held], *p) for p in zip(*parts, strict=True)
        )
        return codes, rows

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """The codes (N, D) of `coded`, if they are one real-valued vector per row."""
        assert self.code is not None
        return self.coded[0][self.code].astype(np.float64)

    @functools.cached_property
    def space(self) -> Space:
        """The space of the codec's codes, if they are one real-valued vector per row."""
        assert self.model is not None
        return Space.of(self.model, self.variables, self.spec)

    def decode(self, codes: np.ndarray, given: Columns, stage: str) -> Columns:
        """Return the rows (N, ...) of codes (N, D), in batches of one size; `given` has their conditions."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.spec.targets}
        size = self.config.batch
        for start in range(0, len(codes), size):
            index = np.arange(start, start + size).clip(max=len(codes) - 1)
            rows = self.space.decode(
                jnp.asarray(codes[index], jnp.float32), {k: x[index] for k, x in given.items()}
            )
            for name, x in jax.device_get(rows).items():
                found[name].append(x)
            self.progress(stage, min(start + size, len(codes)), len(codes))
        return {name: np.concatenate(x)[: len(codes)] for name, x in found.items()}

    @functools.cached_property
    def factors(self) -> Columns:
        """The factors of the rows of `codes`: {name: (N,) integers}."""
        rows = self.dataset.eval.rows(np.arange(self.held))
        return {name: np.asarray(rows[name]) for name in self.spec.factors}

    @functools.cached_property
    def detail(self) -> dict[str, Scalar]:
        """The detail of every score: the average of the weights and the options of the sampler."""
        if self.real:
            return {"weights": "real data", "prompt": "the data's own conditions"}
        plain = (str, int, float, bool, type(None))
        given = {f"option.{k}": v if isinstance(v, plain) else str(v) for k, v in self.options.items()}
        prompt = {}
        if self.model is not None and self.model.sample is not None:
            prompt = {"prompt": conditions.source(self.dataset, self.labels)}
        return {"weights": self._average or "last", **given, **prompt}

    def protocol(self, **more: Scalar) -> dict[str, Scalar]:
        """Return the protocol of a score that does not depend on the reference: the data, and `more`."""
        return {**data_protocol(self.dataset), **more}


def chosen_average(variables: Variables, name: str | None) -> str | None:
    """Return the average to evaluate: `name`, or None for the last weights if there are no averages.

    Raises:
      ConfigError: there are averages, and `name` is not among them.
    """
    kept = sorted(variables.ema)
    if name is None or not kept:
        return None
    if name not in kept:
        raise ConfigError(
            f"evaluate.average={name!r}: the weights have no such average{nearest(name, kept)}",
            f"use {', '.join(kept)}, or none for the last weights",
        )
    return name


def _held_out(dataset: Any, size: int, config: Config) -> list[Columns]:
    """Return up to config.sets disjoint sets of `size` real held-out rows.

    Raises:
      ConfigError: the eval split is smaller than one set.
    """
    rows = distinct(dataset.eval)
    if rows < size:
        raise ConfigError(
            f"a floor of {size} real rows needs as many held-out ones; the eval split has {rows}",
            f"set evaluate.samples to {rows} or less, or floor=False in the comparison",
        )
    order = np.random.default_rng(config.seed).permutation(rows)
    count = min(config.sets, rows // size)
    return [dataset.eval.rows(np.sort(order[i * size : (i + 1) * size])) for i in range(count)]
