"""Assign each leaf to devices: (regex, partition spec) rules over the paths of the state, on a mesh."""

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
from genjax.training import distributed
from genjax.training.config import Mesh
from genjax.training.trees import name

ROWS = (AXIS, "fsdp")
"""The mesh axes that divide the rows of a batch."""


def make_mesh(mesh: Mesh, devices: Sequence[Any]) -> jax.sharding.Mesh:
    """Return the device mesh (data, fsdp, tensor), whose axes XLA partitions automatically.

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
    """Return the partition spec of one leaf: that of the first rule found in its path, aligned at the right.

    Axes of size 1 (factored statistics) and optimizer state with fewer axes than the rule stay replicated.

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
    """Return a NamedSharding for each leaf of a TrainState or Variables (or their shapes).

    Carries are divided by rows.
    """

    def one(path: Any, x: Any) -> NamedSharding:
        text = name(path)
        if text.startswith("carry"):
            return NamedSharding(mesh, PartitionSpec(tuple(a for a in ROWS if a in mesh.shape)))
        return NamedSharding(mesh, spec(text, x.shape, rules, mesh))

    return jax.tree_util.tree_map_with_path(one, form)


def share(mesh: jax.sharding.Mesh) -> tuple[int, int]:
    """Return (index, count): which of `count` equal parts of a batch's rows this process reads.

    Processes whose devices hold the same rows (a tensor axis that spans processes) read the same part.

    Raises:
      ConfigError: the rows of this process are not one such part.
    """
    if distributed.count() == 1:
        return 0, 1
    ways = math.prod(mesh.shape[a] for a in ROWS if a in mesh.shape)
    rows = NamedSharding(mesh, PartitionSpec(tuple(a for a in ROWS if a in mesh.shape)))
    parts = rows.addressable_devices_indices_map((ways,)).values()
    slots = sorted({part[0].indices(ways)[0] for part in parts if part is not None})
    size = len(slots)
    if slots != [*range(slots[0], slots[0] + size)] or ways % size or slots[0] % size:
        raise ConfigError(
            f"train.mesh: process {distributed.index()} holds the parts {slots} of {ways} of a batch",
            "choose mesh sizes that give each process one contiguous part",
        )
    return slots[0] // size, ways // size


def place(tree: Tree, sharding: Any) -> Tree:
    """Return global arrays of this sharding from host arrays, of which each process has its own rows."""
    if distributed.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def spread(tree: Tree, layout: Tree) -> Tree:
    """Return global arrays of these shardings from arrays that every process has whole."""
    if distributed.count() == 1:
        return jax.device_put(tree, layout)

    def one(x: Any, sharding: Any) -> jax.Array:
        value = np.asarray(x)
        return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])

    return jax.tree.map(one, tree, layout)


def gathered(tree: Tree) -> Tree:
    """Return whole copies of global arrays on the first device of this process.

    For programs that each process runs by itself, such as samplers. One process gets its tree back. This is
    a collective: every process must call it.
    """
    if distributed.count() == 1:
        return tree
    leaves, treedef = jax.tree.flatten(tree)
    meshes = [x.sharding.mesh for x in leaves if isinstance(x.sharding, NamedSharding)]
    if not meshes:
        return tree
    whole = NamedSharding(meshes[0], PartitionSpec())
    copies = jax.jit(lambda xs: xs, out_shardings=whole)(leaves)
    return jax.tree.unflatten(treedef, [x.addressable_data(0) for x in copies])
