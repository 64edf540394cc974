"""Between named tensors of a file and the tree of our parameters: a list of entries, read both ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from genjax.core import Tree, Variables
from genjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model of another library as ours.

    Attributes:
      fields: of our config: {"name": the model, field: value ...}.
      variables: params {"model": tree}, float32.
      config: their config.json, for keys that ours have no word for.
    """

    fields: dict[str, Any]
    variables: Variables
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a file, and where it lies in our tree.

    Attributes:
      name: in the file.
      shape: in the file.
      paths: of our leaves; several share the tensor, in equal parts of our last axis.
      transpose: the file has it as (out, in), and we as (in, out).
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[str, ...]
    transpose: bool = False


def linear(name: str, path: str, inputs: int, outputs: int, bias: bool) -> list[Entry]:
    """A torch Linear and ours."""
    found = [Entry(f"{name}.weight", (outputs, inputs), (f"{path}/kernel",), transpose=True)]
    return [*found, Entry(f"{name}.bias", (outputs,), (f"{path}/bias",))] if bias else found


def layernorm(name: str, path: str, width: int) -> list[Entry]:
    """A LayerNorm with scale and bias."""
    return [
        Entry(f"{name}.weight", (width,), (f"{path}/scale",)),
        Entry(f"{name}.bias", (width,), (f"{path}/bias",)),
    ]


def to_tree(entries: Iterable[Entry], tensors: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    """Our tree of a file's tensors, float32.

    Raises:
      DataError: a tensor is missing, of another shape, or no floating point.
    """
    tree: dict[str, Any] = {}
    for entry in entries:
        if entry.name not in tensors:
            raise DataError(
                f"{where}: no tensor {entry.name!r} of shape {entry.shape}",
                "config.json and the weights are of different models, or the file is not whole",
            )
        x = tensors[entry.name]
        if x.shape != entry.shape:
            raise DataError(
                f"{where}: tensor {entry.name!r} has shape {x.shape}, and config.json asks for {entry.shape}",
                "config.json and the weights are of different models",
            )
        if x.dtype.kind != "f":
            raise DataError(f"{where}: tensor {entry.name!r} is {x.dtype}", "weights that are not quantised")
        x = x.astype(np.float32)
        parts = np.split(x.T if entry.transpose else x, len(entry.paths), axis=-1)
        for path, part in zip(entry.paths, parts, strict=True):
            put(tree, path, np.ascontiguousarray(part))
    return tree


def from_tree(entries: Iterable[Entry], tree: Tree) -> dict[str, np.ndarray]:
    """The tensors of our tree, as `to_tree` reads them.

    Raises:
      ConfigError: the tree has leaves that the file has no place for, or lacks some.
    """
    leaves = {
        "/".join(str(getattr(k, "key", k)) for k in path): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }
    out = {}
    for entry in entries:
        missing = [p for p in entry.paths if p not in leaves]
        if missing:
            raise ConfigError(f"the parameters have no {missing[0]}", "give the fields that they belong to")
        x = np.concatenate([leaves.pop(p) for p in entry.paths], axis=-1)
        x = x.T if entry.transpose else x
        if x.shape != entry.shape:
            raise ConfigError(
                f"{', '.join(entry.paths)}: shape {x.shape}, and the fields ask for {entry.shape}",
                "give the fields that the parameters belong to",
            )
        out[entry.name] = np.ascontiguousarray(x)
    if leaves:
        raise ConfigError(
            f"{sorted(leaves)[0]} has no place in the other library's format",
            "only models of that form can be written",
        )
    return out


def put(tree: dict[str, Any], path: str, leaf: np.ndarray) -> None:
    """Sets a leaf of nested dicts."""
    *above, last = path.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = leaf


def require(fields: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]], kind: str) -> None:
    """Refuses fields whose value is not among those that the other library's architecture has.

    Raises:
      ConfigError: names the first.
    """
    for name, values in allowed.items():
        if name in fields and fields[name] not in values:
            choice = " or ".join(map(repr, values))
            raise ConfigError(
                f"{kind} has no {name}={fields[name]!r}", f"only models with {name}={choice} can be written"
            )


def known(config: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]], where: str) -> None:
    """Refuses a config.json that asks for a form that ours has not.

    Raises:
      ConfigError: names the first.
    """
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise ConfigError(
                f"{where}: config.json has {name}={config[name]!r}, which is not supported",
                f"supported: {', '.join(map(repr, values))}",
            )


def ratio(inner: int, width: int) -> float | int:
    """The MLP's width over the model's, such that round(ratio * width) is exactly `inner`."""
    return inner / width
