"""load(config) -> Dataset: finds the source by the name's first word, and checks what it hands back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from genjax import plugins
from genjax.data import sources
from genjax.data.config import Config
from genjax.data.dataset import Dataset, Split, fingerprint
from genjax.data.rows import Rows, first
from genjax.data.tokenizers import Tokenizer
from genjax.errors import ConfigError, DataError, nearest
from genjax.spec import Element, Spec


class Loaded(NamedTuple):
    """What a source hands back. A source is a module of genjax.data.sources with
    `load(config, argument) -> Loaded`; its file's name is the first word of the datasets' names.

    Attributes:
      elements: the form of a row.
      train, eval: the rows.
      content: a digest that is equal exactly where the content of both is.
      tokenizer, classes, info: see Dataset.
      paired: see Spec.
    """

    elements: Mapping[str, Element]
    train: Rows
    eval: Rows
    content: str
    tokenizer: Tokenizer | None = None
    classes: tuple[str, ...] = ()
    info: str = ""
    paired: bool = False


def names() -> list[str]:
    """The first words of the names that `load` knows."""
    return plugins.names(sources.__name__)


def read(config: Config) -> Loaded:
    """What the source named in the config holds.

    Raises:
      DataError: an unknown name, with the nearest known one.
    """
    source, _, argument = config.name.partition(":")
    if "." not in source and source not in names():
        takes = {"tfds": "tfds:NAME", "folder": "folder:PATH", "text": "text:PATH", "zip": "zip:A,B"}
        known = ", ".join(takes.get(name, name) for name in names())
        raise DataError(f"unknown dataset {config.name!r}{nearest(source, names())}", f"one of {known}")
    return plugins.load(sources.__name__, source, "dataset").load(config, argument)


def load(config: Config | None = None, **changes) -> Dataset:
    """The dataset that the config names; `load(name="digits")` is the short form.

    Args:
      config: the data section of a config.
      changes: fields to change in it.

    Raises:
      DataError: the data is unknown, missing, corrupt or of another form; says what to do.
    """
    try:
        config = dataclasses.replace(config or Config(), **changes)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data: {error}") from error
    got = read(config)
    splits = []
    for name, rows in (("train", got.train), ("eval", got.eval)):
        if not len(rows):
            raise DataError(f"{config.name!r} has no rows in its {name} part", "more data, or another split")
        splits.append(Split(name, first(rows, config.limit)))
    train, held = splits
    spec = Spec(dict(got.elements), len(train), dict(getattr(got.tokenizer, "special", {})), got.paired)
    return Dataset(
        name=config.name,
        spec=spec,
        train=train,
        eval=held,
        fingerprint=fingerprint(spec, (len(train), len(held)), got.content),
        tokenizer=got.tokenizer,
        classes=got.classes,
        info=got.info,
        config=config,
    )
