"""Convert text to integers and back. One file per kind of tokenizer, found by its name.

`data.tokenizer` names a file of this package, or a dotted module outside it. Such a module defines the names
of `Module`. A tokenizer is saved with the description of the dataset and restored from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from genjax import plugins
from genjax.data.tokenizers._interface import Module, Options, Tokenizer
from genjax.data.tokenizers._pieces import Pieces, pieces
from genjax.errors import ConfigError

__all__ = [
    "PACKAGE",
    "Module",
    "Options",
    "Pieces",
    "Tokenizer",
    "fit",
    "from_json",
    "load",
    "names",
    "pieces",
]

PACKAGE = "genjax.data.tokenizers"


def names() -> list[str]:
    """Return the names of the kinds of this package."""
    return plugins.names(PACKAGE)


def load(kind: str) -> Module:
    """Import the module of a kind.

    Raises:
      ConfigError: no such kind; names the nearest.
    """
    return cast(Module, plugins.load(PACKAGE, kind, "tokenizer", ("fit", "from_json")))


def fit(kind: str, text: str, options: Options = Options(), also: str = "") -> Tokenizer:
    """Return a tokenizer of this kind for a text: see `Module.fit`.

    Raises:
      ConfigError: no such kind, or a module whose tokenizers cannot be found again by their kind.
    """
    tokenizer = load(kind).fit(text, options, also)
    # That of another run (`run`) has a kind of its own, which must restore it.
    if tokenizer.kind != kind and type(_restored(tokenizer)) is not type(tokenizer):
        raise ConfigError(
            f"the tokenizer of {kind!r} has the kind {tokenizer.kind!r}",
            "set its `kind` to the name of its module, by which a saved one is found again",
        )
    return tokenizer


def _restored(tokenizer: Tokenizer) -> Tokenizer | None:
    """Return a tokenizer as it would be found again; None if it would not be."""
    try:
        return from_json(tokenizer.to_json())
    except Exception:  # of a module that is not its own
        return None


def from_json(data: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that `Tokenizer.to_json` turned into `data`.

    Raises:
      ConfigError: no such kind.
    """
    return load(data["kind"]).from_json(data)
