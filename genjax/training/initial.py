"""Compute the variables that step 1 starts from: leaves of another run, and state fitted on real rows."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core import Batch, Model, Variables, row_keys
from genjax.errors import ConfigError
from genjax.training.trees import describe, difference, entry, named

log = logging.getLogger("genjax")


def chosen(fresh: Variables, given: Variables, match: str) -> dict[str, np.ndarray]:
    """Return the leaves of `given` that a new run starts from, {path: array on the host}.

    A parameter (params/PLAYER/...) is copied if its path matches. A leaf of the state (state/...) is copied
    if its path matches and `given` has it.

    Args:
      fresh: the variables of the new run (arrays or shapes).
      match: regex, searched in the paths; empty for all.

    Raises:
      ConfigError: a parameter that matches has no counterpart, a counterpart has another shape or dtype,
        or nothing matches.
    """
    wanted = {**_under("params", fresh.params), **_under("state", fresh.state)}
    there = {**_under("params", given.params), **_under("state", given.state)}
    hint = "choose the leaves to copy with train.init_match"
    out = {}
    for path, leaf in wanted.items():
        if not re.search(match, path):
            continue
        if path not in there:
            if path.startswith("state/"):
                continue
            raise ConfigError(f"train.init_from: the other run has no leaf {path}", hint)
        if entry(there[path]) != entry(leaf):
            raise ConfigError(
                f"train.init_from: leaf {path} is {_form(there[path])} there and {_form(leaf)} here", hint
            )
        out[path] = np.asarray(there[path])
    if not out:
        raise ConfigError(
            f"train.init_match={match!r} matches no leaf", f"for example: {next(iter(wanted), '')}"
        )
    log.info("%d of %d leaves start from another run", len(out), len(wanted))
    return out


def replaced(variables: Variables, leaves: Mapping[str, Any]) -> Variables:
    """Return the variables with these leaves (by path: params/... and state/...) in place of their own."""

    def swap(top: str, tree: Any) -> Any:
        values = [leaves.get(path, leaf) for path, leaf in _under(top, tree).items()]
        return jax.tree.unflatten(jax.tree.structure(tree), values)

    return variables.replace(params=swap("params", variables.params), state=swap("state", variables.state))


def fitted(model: Model, variables: Variables, frozen: Any, batch: Batch, root: jax.Array) -> Variables:
    """Return variables whose state `Model.fit` has fitted on a batch of training rows.

    Args:
      batch: the global batch, without carry.
      root: key of the noise, one stream for all rows.

    Raises:
      TypeError: fit returned leaves of other paths, shapes or dtypes.
    """
    assert model.fit is not None
    keys = row_keys(root, 0, jnp.arange(batch["mask"].shape[0]))
    batch = {**batch, "carry": model.carry(batch)}
    out = model.fit(variables.replace(frozen=frozen), batch, keys)
    out = out.replace(ema=variables.ema, frozen={})
    if found := difference(describe(out), describe(variables)):
        raise TypeError(f"Model.fit returned other variables: {found}")
    return out


def _under(top: str, tree: Any) -> dict[str, Any]:
    return {f"{top}/{path}": leaf for path, leaf in named(tree).items()}


def _form(x: Any) -> str:
    return f"{x.dtype}{tuple(x.shape)}"
