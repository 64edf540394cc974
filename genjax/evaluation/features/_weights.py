"""Read the weights of a network from a safetensors file and check every leaf. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from genjax.errors import DataError, nearest

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a leaf, as in the torch state dict, -> its shape."""
Tensors = dict[str, np.ndarray]
PICKLED = (".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of torch's own format: reading such a file can execute any program."""
COUNTER = "num_batches_tracked"
"""A leaf of torch's batch normalisation that counts training steps. It has no effect on inference."""


def read(path: Path, leaves: Shapes, unused: Shapes, convert: str) -> Tensors:
    """Return the leaves of a safetensors file as float32 arrays.

    Args:
      path: of the file.
      leaves: the leaves that the features depend on.
      unused: leaves that may be present and are ignored, such as those of the classifier.
      convert: the command that writes such a file, for the hints.

    Raises:
      DataError: a missing, pickled or damaged file; a leaf that is missing, unknown, of another shape
        or not finite.
    """
    if path.suffix in PICKLED:
        raise DataError(
            f"{path} is a pickled torch file, which is not read here", f"convert it once: {convert}"
        )
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a safetensors file", f"write the file: {convert}")
    try:
        found = safetensors.numpy.load_file(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", f"check the path, or write the file: {convert}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as safetensors: {error}", f"write the file again: {convert}"
        ) from error
    check(found, leaves, unused, str(path))
    return {name: found[name].astype(np.float32) for name in leaves}


def check(found: Mapping[str, np.ndarray], leaves: Shapes, unused: Shapes, where: str) -> None:
    """Compare the names, shapes and dtypes of tensors with those of a network.

    Raises:
      DataError: names the first leaf that is missing, unknown, misshapen, not floating-point or not finite.
    """
    hint = "use the weights of exactly this network"
    for name in leaves:
        if name not in found:
            raise DataError(f"{where} lacks the leaf {name!r}{nearest(name, found)}", hint)
    known = {**unused, **leaves}
    for name, value in found.items():
        if name.rpartition(".")[2] == COUNTER:
            continue
        if name not in known:
            raise DataError(f"{where} has an unknown leaf {name!r}{nearest(name, known)}", hint)
        if value.shape != known[name]:
            raise DataError(f"the leaf {name!r} of {where} has shape {value.shape}, not {known[name]}", hint)
        if value.dtype.kind != "f":
            raise DataError(f"the leaf {name!r} of {where} has dtype {value.dtype}, not a float dtype", hint)
        if not np.isfinite(value).all():
            raise DataError(f"the leaf {name!r} of {where} has values that are not finite", hint)


def digest(tensors: Mapping[str, np.ndarray], preprocessing: str) -> str:
    """Return the sha256 (hex) of the preprocessing and of the names, shapes and float32 values of leaves."""
    found = hashlib.sha256(preprocessing.encode())
    for name in sorted(tensors):
        found.update(f"\n{name} {tensors[name].shape}\n".encode())
        found.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return found.hexdigest()
