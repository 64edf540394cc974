"""Draw samples: sample i is a function of (seed, i), its condition and the weights.

One sampler serves training pictures, `genjax sample`, `evaluate` and `compare`: with the same weights,
options and batch size it draws the same sample i in all of them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from genjax.config import Seed, coerce
from genjax.core import Batch, Keys, Model, Variables, row_keys
from genjax.errors import ConfigError, NonFiniteError, nearest
from genjax.functional import finite
from genjax.sampling.conditions import prompts

STREAM = 0x5A4E
"""The stream of sampling keys: fold_in(fold_in(key(seed), STREAM), i)."""
Columns = dict[str, np.ndarray]


def options(model: Model, given: Mapping[str, Any], path: str = "sample") -> dict[str, Any]:
    """Return `given` as keyword arguments of the model's sampler, of the types that its signature declares.

    Raises:
      ConfigError: names an option that the sampler does not have, and the nearest it has; or a value of
        another type or out of its range.
    """
    return {} if model.sample is None else keywords(model.sample, given, path, "this model's sampler")


def keywords(function: Callable, given: Mapping[str, Any], path: str, what: str) -> dict[str, Any]:
    """Return `given` as keyword arguments of a function, of the types that its signature declares.

    Raises:
      ConfigError: as `options`.
    """
    known = _declared(function)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"unknown option {path + '.' + key!r}{nearest(key, known)}",
                f"{what} has: {', '.join(known) or 'none'}",
            )
    return {key: _typed(known[key], value, f"{path}.{key}") for key, value in given.items()}


def declared(model: Model) -> dict[str, inspect.Parameter]:
    """Return the options of a model's sampler by name, with the types that it declares."""
    return {} if model.sample is None else _declared(model.sample)


def _declared(function: Callable) -> dict[str, inspect.Parameter]:
    # The signature of a jitted function has its annotations as text, and no place where they are looked up.
    names = getattr(_innermost(function), "__globals__", {})
    options = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: p.replace(annotation=_type(p.annotation, names)) for p in options}


def _innermost(function: Any) -> Any:
    """Return the function inside of wrappers (jit, functools.wraps) and partial calls."""
    while inner := getattr(function, "__wrapped__", None) or getattr(function, "func", None):
        function = inner
    return function


def _type(annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type of an annotation; its text if it names one that is imported for type checkers only."""
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except NameError:
        return annotation


def _typed(parameter: inspect.Parameter, value: Any, where: str) -> Any:
    hint = parameter.annotation
    if hint is parameter.empty or isinstance(hint, str):
        return value
    default = dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
    return coerce(hint, value, where, default)


class Sampler:
    """Draw from a model in batches of one size; compiles once for every form of prompt.

    Args:
      model: with a sampler.
      dataset: whose spec and held-out rows give the conditions.
      batch: samples drawn at once.
      given: options of model.sample; static.
      labels: whether class labels are given (see `prompts`).
      seed: of the sampling keys, of 32 bits.

    Raises:
      ConfigError: the model has no sampler, an option is unknown, or the seed is out of range.
    """

    def __init__(
        self,
        model: Model,
        dataset: Any,
        *,
        batch: int,
        given: Mapping[str, Any] = {},
        labels: bool = True,
        seed: int = 0,
    ):
        if model.sample is None:
            raise ConfigError("this model has no sampler", "it is used through its predictions")
        self.model = model
        self.dataset = dataset
        self.batch = batch
        self.labels = labels
        self.root = jax.random.key(coerce(Seed, seed, "seed", 0))
        self.given = options(model, given)
        self._finish = jax.jit(model.finish)
        self._draw = jax.jit(checkify.checkify(self._drawn, errors=checkify.user_checks))
        self._programs: dict[int, Any] = {}

    def _drawn(self, variables: Variables, keys: Keys, prompt: Batch) -> Batch:
        """Draw a batch; note weights that are not finite, from which samples may still look valid."""
        assert self.model.sample is not None
        finite.note_values(variables.params, "weights")
        return self.model.sample(variables, keys, prompt, **self.given)

    def finish(self, variables: Variables) -> Variables:
        """Return the variables ready for use: counts sorted, statistics refitted."""
        return self._finish(variables)

    def check(self, variables: Variables) -> None:
        """Trace the sampler, without compiling it, to find options that do not fit the model or the data.

        Args:
          variables: or their shapes, not yet finished.

        Raises:
          ConfigError: as the model's sampler does.
        """
        jax.eval_shape(
            lambda v: self._draw(self._finish(v), *self.arguments(np.arange(self.batch))), variables
        )

    def arguments(self, index: np.ndarray, given: Batch | None = None) -> tuple[Keys, Batch]:
        """Return (keys, prompt) of samples `index`; `given` replaces the conditions of the protocol."""
        prompt = prompts(self.dataset, index, self.labels) if given is None else given
        prompt = {name: jnp.asarray(x) for name, x in prompt.items()}
        return row_keys(self.root, STREAM, jnp.asarray(index)), prompt

    def compiled(self, variables: Variables, batch: int | None = None) -> Any:
        """Return the compiled program (finished variables, keys, prompt) -> (error, batch of this size).

        The error is that of `functional.finite.note`.

        It is kept: later calls return it whatever the variables, and `draw` uses that of its own batch size.
        """
        batch = batch or self.batch
        if batch not in self._programs:
            keys, prompt = self.arguments(np.arange(batch))
            self._programs[batch] = self._draw.lower(variables, keys, prompt).compile()
        return self._programs[batch]

    def draw(
        self,
        variables: Variables,
        count: int,
        start: int = 0,
        given: Batch | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Columns:
        """Draw samples start .. start + count.

        Batches are aligned: batch k always holds samples k * batch to (k + 1) * batch - 1. Matrix products
        may round differently for another number of rows, so this makes sample i independent of `count`.

        Args:
          variables: finished ones (`finish`), at the average to sample from.
          given: conditions of the `count` samples, batch-first, in place of the protocol's.
          progress: called with (samples drawn, count).

        Returns:
          {element: array of `count` rows}, with the conditions that were given.

        Raises:
          NonFiniteError: weights, logits, pixels or a real-valued sample are not finite.
        """
        parts: list[Columns] = []
        first = start - start % self.batch
        # Given conditions may have another form than those that a kept program was compiled for.
        program = self._draw if given is not None else self._programs.get(self.batch, self._draw)
        for at in range(first, start + count, self.batch):
            index = np.arange(at, at + self.batch)
            own = None if given is None else _rows(given, index - start)
            keys, prompt = self.arguments(index, own)
            error, drawn = program(variables, keys, prompt)
            if what := finite.noted(error):
                raise not_finite(f"samples {at} to {at + self.batch - 1} cannot be drawn: the {what} are")
            out = {**prompt, **drawn}
            kept = slice(max(start - at, 0), min(start + count - at, self.batch))
            parts.append({name: np.asarray(x)[kept] for name, x in out.items()})
            if progress is not None:
                progress(min(at + self.batch, start + count) - start, count)
        columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        _check(columns, start)
        return columns


def _rows(given: Batch, index: np.ndarray) -> Batch:
    """Return the rows of given conditions at `index`; indices outside repeat the first or the last row."""
    return {name: np.asarray(x)[np.clip(index, 0, len(x) - 1)] for name, x in given.items()}


def not_finite(what: str) -> NonFiniteError:
    """Return the error for `what` ("the logits are") that a diverged model has made NaN or infinite."""
    return NonFiniteError(
        f"{what} not finite", "the weights have diverged: take an earlier checkpoint (--step)"
    )


def _check(columns: Columns, start: int) -> None:
    """Raise NonFiniteError for the first sample that holds a NaN or an infinity."""
    for name, x in columns.items():
        if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))[0])
            raise not_finite(f"the {name} of sample {start + bad} is")
