"""Between named tensors of a file and the tree of our parameters: a list of entries, read both ways."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from genjax.core import Tree, Variables
from genjax.errors import ConfigError, DataError

log = logging.getLogger("genjax")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model of another library as ours.

    Attributes:
      fields: of our config: {"name": the model, field: value ...}.
      variables: params {"model": tree}, float32.
      config: their config.json, for keys that ours have no word for.
      dtypes: {tensor: its type in the file}, so that `save` writes the same names and types.
    """

    fields: dict[str, Any]
    variables: Variables
    config: dict[str, Any]
    dtypes: dict[str, str] = dataclasses.field(default_factory=dict)


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
      DataError: a tensor is missing, of another shape, no floating point, or not finite.
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
        if x.dtype.kind != "f" and x.dtype != ml_dtypes.bfloat16:
            raise DataError(f"{where}: tensor {entry.name!r} is {x.dtype}", "weights that are not quantised")
        x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise DataError(
                f"{where}: tensor {entry.name!r} holds NaN or infinite values",
                "give the weights of a training that did not diverge, or fetch the file again",
            )
        parts = np.split(x.T if entry.transpose else x, len(entry.paths), axis=-1)
        for path, part in zip(entry.paths, parts, strict=True):
            put(tree, path, np.ascontiguousarray(part))
    return tree


def without_copies(
    tensors: Mapping[str, np.ndarray], copies: Mapping[str, str], where: str
) -> dict[str, np.ndarray]:
    """Return the tensors of a file, each tied one under a single name.

    Args:
      copies: {another name of a tied tensor: the name that is kept}.

    Raises:
      DataError: both names are in the file, with different values.
    """
    out = dict(tensors)
    for copy, name in copies.items():
        if copy not in out:
            continue
        x = out.pop(copy)
        if not np.array_equal(out.setdefault(name, x), x):
            raise DataError(
                f"{where}: tensor {copy!r} differs from {name!r}, to which config.json ties it",
                f"remove {copy!r}, or load an architecture that keeps both (tie_word_embeddings)",
            )
    return out


def check_leftovers(
    entries: Iterable[Entry], tensors: Iterable[str], where: str, *, buffers: str, heads: str
) -> None:
    """Refuse a file with tensors that no entry reads.

    Args:
      tensors: names of the file's tensors.
      buffers: regular expression of tensors that hold constants; they are passed over.
      heads: regular expression of heads of other tasks; they are named in a warning.

    Raises:
      DataError: names the other tensors.
    """
    left = sorted(set(tensors) - {e.name for e in entries})
    left = [name for name in left if not re.fullmatch(buffers, name)]
    unknown = [name for name in left if not re.fullmatch(heads, name)]
    if unknown:
        raise DataError(
            f"{where}: {len(unknown)} tensors have no place in the model: {_few(unknown)}",
            "config.json and the weights are of different models, or the model has parts that ours lacks",
        )
    if left:
        log.warning("%s: heads of other tasks are left out: %s", where, _few(left))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def dtypes(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return {name: type} of tensors."""
    return {name: str(x.dtype) for name, x in tensors.items()}


def narrowed(tensors: Mapping[str, np.ndarray], like: Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """Return tensors in the types of `like`, {name: type}; float32 for names that it lacks.

    Raises:
      DataError: a value is too large for its type.
    """
    out = {}
    rounded = []
    for name, x in tensors.items():
        with np.errstate(over="ignore"):
            out[name] = x.astype(_dtype((like or {}).get(name, "float32")))
        back = out[name].astype(x.dtype)
        if not np.isfinite(back).all() and np.isfinite(x).all():
            raise DataError(
                f"tensor {name!r} has values that are too large for {out[name].dtype}",
                "remove imported.json from the run's directory to write float32",
            )
        if not np.array_equal(back, x):
            rounded.append(name)
    if rounded:
        log.warning(
            "%d tensors are rounded to the types of the import, the first: %s", len(rounded), rounded[0]
        )
    return out


def _dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


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


def sizes(config: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse a config.json whose sizes are not positive integers.

    Raises:
      ConfigError: names the first.
    """
    for name in names:
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"{where}: config.json has {name}={value!r}",
                "it must be a positive integer; fetch the file again",
            )


def numbers(config: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse a config.json whose real numbers are missing or negative.

    Raises:
      ConfigError: names the first.
    """
    for name in names:
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigError(
                f"{where}: config.json has {name}={value!r}", "it must be a number of at least 0"
            )


def divisible(config: Mapping[str, Any], width: str, heads: str, where: str) -> None:
    """Refuse a config.json whose width is not a multiple of its heads.

    Raises:
      ConfigError: names both.
    """
    if config[width] % config[heads]:
        raise ConfigError(
            f"{where}: config.json has {width}={config[width]}, not a multiple of {heads}={config[heads]}",
            "fetch the file again",
        )


def complete(
    config: Mapping[str, Any], defaults: Mapping[str, Any], aliases: Mapping[str, str]
) -> dict[str, Any]:
    """Return a config.json with transformers' defaults for missing keys.

    Args:
      aliases: {another name of a key: the key}, as in transformers' attribute_map.
    """
    renamed = {key: config[alias] for alias, key in aliases.items() if alias in config}
    return {**defaults, **renamed, **config}


def architectures(config: Mapping[str, Any] | None, written: Sequence[str]) -> list[str]:
    """Return the class names of their config, if it is one that we write; else the first of these."""
    named = (config or {}).get("architectures") or ()
    return [name for name in named if name in written] or [written[0]]


def ratio(inner: int, width: int) -> float | int:
    """The MLP's width over the model's, such that round(ratio * width) is exactly `inner`."""
    return inner / width
