"""A Hugging Face directory: config.json and safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from genjax.errors import DataError

WEIGHTS = "model.safetensors"
PICKLED = ("pytorch_model.bin", "*.bin", "*.pt", "*.pth", "*.ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of weights that can be read. Others that begin with F (F8_E4M3 ...) are quantised."""
Tensors = dict[str, np.ndarray]


def config(directory: str | Path) -> dict[str, Any]:
    """A directory's config.json.

    Raises:
      DataError: it is missing or is not a JSON object.
    """
    path = Path(directory) / "config.json"
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}",
            "give a directory with config.json and model.safetensors",
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "fetch the file again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no object", "fetch the file again")
    return found


def tensors(directory: str | Path) -> Tensors:
    """All tensors of a directory, of one file or of several with an index.

    Raises:
      DataError: no safetensors (pickled weights are refused), or a file that is missing or corrupt.
    """
    directory = Path(directory)
    index = directory / f"{WEIGHTS}.index.json"
    if (directory / WEIGHTS).exists():
        names = [WEIGHTS]
    elif index.exists():
        try:
            names = sorted({str(n) for n in json.loads(index.read_text("utf-8-sig"))["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{index} is no index of weights: {error}", "fetch the file again") from error
    else:
        pickled = sorted({p.name for pattern in PICKLED for p in directory.glob(pattern)})
        if pickled:
            raise DataError(
                f"{directory / pickled[0]} is pickled: reading it could run any program",
                "convert it where you trust it: transformers' from_pretrained, then save_pretrained, "
                "writes model.safetensors",
            )
        raise DataError(f"no {WEIGHTS} in {directory}", "give the directory that holds the weights")
    found: Tensors = {}
    for name in names:
        found |= _read(directory / name)
    return found


def _read(path: Path) -> Tensors:
    """Return a file's tensors as numpy arrays of their own types."""
    try:
        with safetensors.safe_open(path, "np") as file:
            types = {k: str(file.get_slice(k).get_dtype()) for k in file.keys()}  # noqa: SIM118
            _check_types(path, types)
            narrow = {k for k, kind in types.items() if kind == "BF16"}
            out = {k: file.get_tensor(k) for k in file.keys() if k not in narrow}  # noqa: SIM118
        return out | (_bfloat16(path, narrow) if narrow else {})
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", "fetch it again: the index names it") from error
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "it is cut short or damaged: fetch it again"
        ) from error


def _check_types(path: Path, types: Mapping[str, str]) -> None:
    """Raise DataError if a tensor is quantised."""
    for name, kind in types.items():
        if kind.startswith("F") and kind not in FLOATS:
            raise DataError(
                f"{path}: tensor {name!r} has the type {kind}",
                "give weights of float32, float16 or bfloat16",
            )


def _bfloat16(path: Path, names: set[str]) -> Tensors:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    out = {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        half = np.frombuffer(data[8 + size + begin : 8 + size + end], "<u2")
        out[name] = half.view(ml_dtypes.bfloat16).reshape(header[name]["shape"])
    return out


def write(directory: str | Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """Writes config.json and model.safetensors, each whole or not at all; returns the directory."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        part = directory / f".{WEIGHTS}.{os.getpid()}"
        data = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        safetensors.numpy.save_file(data, part, metadata={"format": "pt"})
        part.replace(directory / WEIGHTS)
        part = directory / f".config.json.{os.getpid()}"
        part.write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n", "utf-8")
        part.replace(directory / "config.json")
    except OSError as error:
        raise DataError(f"{directory} cannot be written: {error}", "choose another directory") from error
    return directory
