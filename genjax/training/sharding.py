"""Where each leaf lives: (regex, partition spec) rules over the paths of the state, on a device mesh."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from genjax.core import AXIS, Tree
from genjax.errors import ConfigError
from genjax.training.config import Mesh
from genjax.training.trees import name

ROWS = (AXIS, "fsdp")
"""The mesh axes that divide the rows of a batch."""


def make_mesh(mesh: Mesh, devices: Sequence[Any]) -> jax.sharding.Mesh:
    """The device mesh (data, fsdp, tensor), whose axes XLA partitions automatically.

    Raises:
      ConfigError: the sizes do not multiply to the number of devices.
    """
    try:
        sizes = mesh.sizes(len(devices))
    except ValueError as error:
        raise ConfigError(
            f"train.mesh: {error}", "make data x fsdp x tensor the number of devices"
        ) from error
    axes = (AxisType.Auto,) * 3
    return jax.make_mesh(sizes, (AXIS, "fsdp", "tensor"), axis_types=axes, devices=devices)


def spec(path: str, shape: Sequence[int], rules: Sequence[tuple[str, Any]], mesh: Any) -> PartitionSpec:
    """The partition spec of one leaf: that of the first rule found in its path, aligned at the right.

    Axes of size 1 stay whole (factored statistics), and so does optimizer state of fewer axes than the rule.

    Raises:
      ConfigError: a rule names an unknown mesh axis, has more axes than a parameter, or does not divide it.
    """
    for rule, axes in rules:
        if not re.search(rule, path):
            continue
        if len(axes) > len(shape):
            if path.startswith("opt/"):
                continue
            raise ConfigError(
                f"train.sharding: rule {rule!r} has {len(axes)} axes, {path} has shape {tuple(shape)}"
            )
        out = [None] * (len(shape) - len(axes)) + list(axes)
        for n, (size, axis) in enumerate(zip(shape, out, strict=True)):
            ways = math.prod(_ways(a, mesh, rule) for a in ((axis,) if isinstance(axis, str) else axis or ()))
            if size == 1:
                out[n] = None
            elif size % ways:
                raise ConfigError(
                    f"train.sharding: rule {rule!r} divides axis {n} of {path} {tuple(shape)} {ways} ways",
                    "choose an axis or a mesh size that divides it",
                )
        return PartitionSpec(*out)
    return PartitionSpec()


def _ways(axis: str, mesh: Any, rule: str) -> int:
    if axis not in mesh.shape:
        raise ConfigError(
            f"train.sharding: rule {rule!r} names {axis!r}", f"mesh axes: {', '.join(mesh.shape)}"
        )
    return mesh.shape[axis]


def shardings(form: Tree, rules: Sequence[tuple[str, Any]], mesh: Any) -> Tree:
    """A NamedSharding for each leaf of a TrainState or Variables (or their shapes); carries go by rows."""

    def one(path: Any, x: Any) -> NamedSharding:
        text = name(path)
        if text.startswith("carry"):
            return NamedSharding(mesh, PartitionSpec(tuple(a for a in ROWS if a in mesh.shape)))
        return NamedSharding(mesh, spec(text, x.shape, rules, mesh))

    return jax.tree_util.tree_map_with_path(one, form)


def place(tree: Tree, sharding: Any) -> Tree:
    """Host arrays, each process's own rows, as global arrays of this sharding."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)
