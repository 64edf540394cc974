"""Properties that every sampler has, as functions with the assertions inside.

The conformance suite applies them to every model; test_sampling_properties.py shows that each of them fails
for a sampler that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from properties import shaken

from genjax import kinds
from genjax.core import Model, Variables
from genjax.errors import NonFiniteError
from genjax.sampling.conditions import prompts
from genjax.sampling.sampler import Sampler
from genjax.training.engine import compilations

Draw = Callable[..., dict[str, np.ndarray]]
"""(seed, conditions of the rows or None) -> rows."""


def perturbed(variables: Variables, scale: float = 0.2) -> Variables:
    """Add noise to every parameter, so that what a network reads shows in what it draws.

    After a few steps a label's embedding can still be so small that rounding to grey levels hides it.
    """
    return variables.replace(params=shaken(variables.params, scale, seed=99))


def drawing(model: Model, dataset: Any, variables: Variables, given: Any, batch: int = 4) -> Draw:
    """Return a function that draws 4 rows; one sampler a seed, so that programs are kept."""
    samplers: dict[int, Sampler] = {}

    def draw(seed: int = 0, conditions: Any = None) -> dict[str, np.ndarray]:
        if seed not in samplers:
            samplers[seed] = Sampler(model, dataset, batch=batch, given=given, seed=seed)
        sampler = samplers[seed]
        return sampler.draw(sampler.finish(variables), 4, given=conditions)

    return draw


def repeated(dataset: Any, index: int) -> dict[str, np.ndarray]:
    """Return the conditions of sample `index`, four times."""
    return prompts(dataset, np.full(4, index))


def targets(dataset: Any, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays of the drawn targets."""
    return [np.asarray(rows[name]) for name in dataset.spec.targets if name in rows]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def assert_form(dataset: Any, rows: dict[str, np.ndarray]) -> None:
    """Samples have the data's targets: dtype, rank and range (and the shape, where rows have one length)."""
    found = kinds.shown(dataset.spec, dataset.spec.targets)
    assert found
    for name, kind in found:
        element = dataset.spec[name]
        x = rows[name]
        assert len(x) == 4
        assert x.dtype == element.dtype, name
        assert x.ndim == len(element.shape) + 1
        if not kind.RUNNING:
            assert x.shape[1:] == element.shape
        if element.levels:
            assert x.min() >= 0
            assert x.max() < element.levels


def assert_depends_on_key(draw: Draw, dataset: Any, deterministic: bool) -> None:
    """Rows of one condition differ, and so do the rows of another seed; or neither, if the model says so."""
    given = repeated(dataset, 0)
    first = targets(dataset, draw(0, given))
    other = targets(dataset, draw(1, given))
    again = targets(dataset, draw(0, given))
    assert same(first, again)
    alike = all(len(np.unique(x.reshape(4, -1), axis=0)) == 1 for x in first)
    assert alike == deterministic, "rows of one condition, each with its own key"
    assert same(first, other) == deterministic, "two seeds"


def assert_depends_on_prompt(draw: Draw, dataset: Any) -> None:
    """Other conditions give other rows, with the same keys."""
    if not dataset.spec.conditions:
        return
    a = targets(dataset, draw(0, repeated(dataset, 0)))
    b = targets(dataset, draw(0, repeated(dataset, 1)))
    assert not same(a, b), "the sampler ignores its prompt"


def assert_continues(draw: Draw, dataset: Any, length: int = 4) -> None:
    """Running targets begin with the beginning that is given."""
    for name, kind in kinds.shown(dataset.spec, dataset.spec.targets):
        if not kind.RUNNING or dataset.spec.paired:
            continue
        start = dataset.eval.rows(np.arange(4))[name][:, :length]
        rows = draw(0, {name: start})
        np.testing.assert_array_equal(rows[name][:, :length], start)


def assert_compiles_once(draw: Draw) -> None:
    """The second draw compiles nothing."""
    draw(0)
    before = compilations()
    draw(0)
    assert compilations() == before, "the second call compiled again"


def assert_refuses_nan(draw: Callable[[Variables], Any], variables: Variables) -> None:
    """Weights that are NaN are an error and no samples; a model without weights has none that could be."""
    weights = [x for x in jax.tree.leaves(variables.params) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not weights:
        return
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), variables.params)
    try:
        draw(variables.replace(params=broken))
    except NonFiniteError:
        return
    raise AssertionError("samples of weights that are NaN")


def assert_rows_alone(whole: Draw, halves: Draw, dataset: Any) -> None:
    """A sample is a function of its own key: another batch size changes (nearly) nothing."""
    for x, y in zip(targets(dataset, whole(0)), targets(dataset, halves(0)), strict=True):
        # Products are summed in another order at another batch size: a rounded level may differ.
        limit = 1e-4 if x.dtype.kind == "f" else 0
        assert (np.abs(x.astype(np.float64) - y) > limit).mean() < 0.02, "depends on the batch"
