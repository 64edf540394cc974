"""Read a tokenizer.json, the format in which model hubs publish tokenizers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from genjax.data.tokenizers._interface import Options
from genjax.data.tokenizers._subwords import Subwords
from genjax.errors import ConfigError, DataError


class File(Subwords):
    """Represent text as a tokenizer.json defines. A special token's name in a text is read as that token."""

    kind: ClassVar[str] = "hf"
    literal: ClassVar[bool] = False


def fit(text: str, options: Options, also: str = "") -> File:
    """Return the tokenizer in options.file; the texts are not used.

    Raises:
      ConfigError: options.file is None, or its tokenizer lacks a special token of options.marks.
      DataError: see `read`.
    """
    if options.file is None:
        raise ConfigError(
            "data.tokenizer='hf' needs a file", "set data.tokenizer_file to the path of a tokenizer.json"
        )
    found = read(options.file)
    for name in options.marks:
        if name not in found.special:
            raise ConfigError(
                f"the tokenizer {options.file} has no {name} token; it has {', '.join(found.special)}",
                f"add a special token <{name}> to its added_tokens, or use data.tokenizer='bpe'",
            )
    return found


def from_json(data: Mapping[str, Any]) -> File:
    """Return the tokenizer that `to_json` turned into `data`."""
    return File(data["tokenizer"])


def read(path: str | Path) -> File:
    """Return the tokenizer in a file, or in the tokenizer.json of a folder.

    Raises:
      DataError: the file is missing, is not JSON, or is not a tokenizer.
    """
    path = Path(path).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    hint = "use the tokenizer.json that is published with a model's weights"
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"tokenizer file {path} cannot be read: {error.strerror}", hint) from error
    except ValueError as error:
        raise DataError(f"tokenizer file {path} is not JSON: {error}", hint) from error
    if not isinstance(data, dict):
        raise DataError(f"tokenizer file {path} is not a tokenizer: it holds a {type(data).__name__}", hint)
    try:
        return File(data)
    except Exception as error:  # the library raises Exception itself
        raise DataError(f"tokenizer file {path} is not a tokenizer: {error}", hint) from error
