"""Read one checkpoint folder: its JSON record, and leaves that are placed as they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from genjax.core import Tree
from genjax.training import sharding as shardings
from genjax.training.trees import checksums, named

_FORM = {"step": int, "tree": dict, "players": list, "averages": dict, "sums": dict}
"""Fields that every record has, with their types."""
_SYSTEM = re.compile(r"\[OS error \d+: \w+ ([^\]]+)\]")
"""The error of the operating system in a message of TensorStore."""
_WORDS = {"RESOURCE_EXHAUSTED": "no space left", "error while reading array": "an array in it cannot be read"}
"""Other messages, which name internal objects, in words."""


def record(folder: Path, step: int) -> dict[str, Any]:
    """Return the record of a checkpoint.

    Args:
      folder: of all checkpoints of a run.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not JSON, not a record, or that of another step.
    """
    found = json.loads((folder / str(step) / "record" / "metadata").read_text("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"its record is {type(found).__name__}, not an object")
    for key, kind in _FORM.items():
        if not isinstance(found.get(key), kind):
            raise ValueError(f"its record has no valid {key!r}")
    if found["step"] != step:
        raise ValueError(f"its record is of step {found['step']}")
    return found


def leaves(folder: Path, record: Mapping[str, Any], form: Tree, layout: Tree, prefix: str = "") -> Tree:
    """Return the leaves under `prefix`, each placed by its own sharding as it is read.

    Args:
      folder: of this checkpoint.
      form: their shapes and dtypes.
      layout: their shardings.

    Raises:
      ValueError: a leaf is not what was written.
      Exception: Orbax cannot read it.
    """
    forms = {prefix + p: x for p, x in named(form).items()}
    places = dict(zip(forms, jax.tree.leaves(layout), strict=True))
    item = {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[p]) for p, x in forms.items() if x.size}
    args = ocp.args.PyTreeRestore(
        item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        arrays = reader.restore(folder / "state", args=args) if item else {}
    for path, value in checksums(arrays).items():
        if record["sums"][path] != value:
            raise ValueError(f"leaf {path} is not what was written (its checksum differs)")
    for path, x in forms.items():
        if not x.size:
            arrays[path] = shardings.spread(np.zeros(x.shape, x.dtype), places[path])
    return jax.tree.unflatten(jax.tree.structure(form), [arrays[p] for p in forms])


def cause(error: BaseException) -> str:
    """Return why a checkpoint cannot be read or written, in a few words."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, FileNotFoundError) or "NOT_FOUND" in str(one):
            return "a file of it is missing"
        if found := _SYSTEM.search(str(one)):
            return found[1]
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    for mark, words in _WORDS.items():
        if any(mark in str(one) for one in chain):
            return words
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
