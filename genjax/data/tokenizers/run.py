"""Use the tokenizer of a run: the one in its dataset.json, of whatever kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax.data import tokenizers
from genjax.data.tokenizers._interface import Options, Tokenizer
from genjax.errors import ConfigError, DataError

RECORD = "dataset.json"
"""As genjax.data.RECORD, which is built on this package."""


def fit(text: str, options: Options, also: str = "") -> Tokenizer:
    """Return the tokenizer of the run that options.file names; the texts are not used.

    Args:
      options: `file` is a run directory, or its dataset.json.

    Raises:
      ConfigError: options.file is None, the run has no tokenizer, or it lacks a token of options.marks.
      DataError: the file is missing or damaged.
    """
    if options.file is None:
        raise ConfigError("data.tokenizer='run' needs a run", "set data.tokenizer_file to a run directory")
    path = Path(options.file).expanduser()
    path = path / RECORD if path.is_dir() else path
    found = _read(path)
    for name in options.marks:
        if name not in found.special:
            raise ConfigError(f"the tokenizer of {path} has no {name} token", "name a run on pairs of texts")
    return found


def from_json(data: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that `Tokenizer.to_json` turned into `data`: that of its own kind."""
    return tokenizers.from_json(data)


def _read(path: Path) -> Tokenizer:
    """Return the tokenizer in a dataset.json."""
    try:
        kept = json.loads(path.read_text("utf-8"))["tokenizer"]
        found = None if kept is None else tokenizers.from_json(kept)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "name a run directory") from error
    except ConfigError:
        raise
    except Exception as error:  # a tokenizer may raise anything for data that is not its own
        raise DataError(f"{path} holds no tokenizer: {error}", "name a run directory") from error
    if found is None:
        raise ConfigError(f"{path}: the data of this run is not text", "name a run on text")
    return found
