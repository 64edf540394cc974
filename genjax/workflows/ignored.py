"""Find the conditions of the data that a model does not read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from genjax.core import Model, Spec, Variables

INNER = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint", "closed_call")
"""Primitives whose inputs and outputs are those of the jaxpr that they hold."""


def conditions(model: Model, variables: Variables, spec: Spec, count: int = 2) -> tuple[str, ...]:
    """Return the conditions on which neither a loss nor the state of the model depends.

    The objectives are traced and nothing is run. A condition counts as read if some operation that leads to
    a loss takes it; masks and other arrays that accompany a condition are left out.

    Args:
      variables: or their shapes, with those of the stages in `frozen`.
      count: rows of the batch that is traced, such as a model can learn from.
    """
    asked = [name for name in spec.conditions if spec[name].kind is not None]
    if not asked:
        return ()
    read: set[str] = set()
    for phase in model.phases.values():
        read |= _read(model, phase.objective, variables, spec, count)
    return tuple(name for name in asked if name not in read)


def _read(model: Model, objective: Any, variables: Variables, spec: Spec, count: int) -> set[str]:
    """Return the names of the elements of a batch that an objective's loss or next state depends on."""
    batch = jax.eval_shape(lambda: spec.example(count))
    batch = {**batch, "carry": jax.eval_shape(model.carry, batch)}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))

    def outputs(rows: Any, variables: Variables, keys: Any, step: Any) -> Any:
        loss, aux = objective(variables, rows, keys, step=step)
        return loss, aux.state

    step = jax.ShapeDtypeStruct((), jnp.int32)
    jaxpr = jax.make_jaxpr(outputs)(batch, variables, keys, step).jaxpr
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(batch)]
    used = _used(jaxpr, [True] * len(jaxpr.outvars))
    return {path[0].key for path, live in zip(paths, used, strict=False) if live}


def _used(jaxpr: Any, wanted: Iterable[bool]) -> list[bool]:
    """Return for each input of a jaxpr whether a wanted output depends on it."""
    live = {v for v, want in zip(jaxpr.outvars, wanted, strict=True) if want and _variable(v)}
    for equation in reversed(jaxpr.eqns):
        needed = [v in live for v in equation.outvars]
        if any(needed):
            inputs = zip(equation.invars, _used_inputs(equation, needed), strict=True)
            live |= {v for v, use in inputs if use and _variable(v)}
    return [v in live for v in jaxpr.invars]


def _used_inputs(equation: Any, needed: list[bool]) -> list[bool]:
    """Return for each input of an operation whether a needed output depends on it."""
    if equation.primitive.name in INNER:
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns") and len(inner.invars) == len(equation.invars):
                return _used(inner, needed)
    return [True] * len(equation.invars)


def _variable(atom: Any) -> bool:
    return not isinstance(atom, jex.Literal)
