"""Weights to and from other libraries: Hugging Face directories of GPT-2, BERT and T5, as safetensors.

`load` reads config.json and the tensors and gives a model's config fields and Variables; `save` writes them
so that the other library reads them as its own. A module of this room is an architecture of theirs, named as
config.json's `model_type` is: `load(config, tensors)` and `save(fields, params)`. They know the names and
shapes of both sides and no model of ours: nothing here imports genjax.models, and models import nothing here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from genjax.core import Variables
from genjax.errors import DataError, nearest
from genjax.interop import files
from genjax.interop.tensors import Loaded

__all__ = ["Loaded", "kinds", "load", "save"]
_HELPERS = ("diffusers", "fields", "files", "tensors")


def kinds() -> list[str]:
    """The architectures that are known, by their names in config.json."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def load(directory: str | Path) -> Loaded:
    """The model in a directory with config.json and model.safetensors.

    Raises:
      DataError: a file is missing or corrupt, an unknown architecture, weights that are pickled, or a tensor
        that is missing, of another shape, not finite, or unknown.
      ConfigError: the architecture has a form that ours has not, or config.json has an impossible size.
    """
    config = files.config(directory)
    kind = str(config.get("model_type"))
    return _module(kind, str(directory)).load(config, files.tensors(directory), str(directory))


def save(directory: str | Path, fields: Mapping[str, Any], variables: Variables, **how: Any) -> Path:
    """Writes config.json and model.safetensors.

    Args:
      fields: of our model's config, with its `name`, as `Loaded.fields`.
      variables: its "model" player's are written.
      how: of the architecture's own `save`: `config` (theirs, whose other keys are kept), `special` (ids of
        special tokens), `like` (`Loaded.dtypes`: names and types of the tensors that were imported).

    Raises:
      ConfigError: theirs has no such architecture, or no form that these fields ask for.
    """
    modules = {m.NAME: m for m in map(_module, kinds())}
    name = str(fields.get("name"))
    if name not in modules:
        raise DataError(
            f"no format for weights of {name!r}{nearest(name, modules)}", f"one of {', '.join(modules)}"
        )
    config, tensors = modules[name].save(fields, variables.params["model"], **how)
    return files.write(directory, config, tensors)


def _module(kind: str, where: str = "") -> ModuleType:
    if kind not in kinds():
        raise DataError(
            f"{where}: unknown architecture {kind!r}{nearest(kind, kinds())}", f"known: {', '.join(kinds())}"
        )
    return importlib.import_module(f"genjax.interop.{kind}")
