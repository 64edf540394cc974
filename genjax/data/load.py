"""Load the dataset that a config names: find its source, read it, and check the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from genjax import plugins
from genjax.data import sources
from genjax.data.binarise import binarised
from genjax.data.config import Config
from genjax.data.dataset import Dataset, Split, fingerprint
from genjax.data.downsample import downsampled
from genjax.data.rows import Rows, first
from genjax.data.tokenizers import Tokenizer
from genjax.errors import ConfigError, DataError, nearest
from genjax.spec import Element, Spec


class Loaded(NamedTuple):
    """Hold the result of a source.

    Attributes:
      elements: of a row, each with its kind and role.
      train, eval: the rows.
      content: a digest that is equal exactly if the content of both parts is equal.
      tokenizer, classes, info: see Dataset.
      paired, held_pairs: see Spec.
    """

    elements: Mapping[str, Element]
    train: Rows
    eval: Rows
    content: str
    tokenizer: Tokenizer | None = None
    classes: tuple[str, ...] = ()
    info: str = ""
    paired: bool = False
    held_pairs: bool = False


def names() -> list[str]:
    """Return the names of the sources: the first words of the names of datasets."""
    return plugins.names(sources.__name__)


def read(config: Config) -> Loaded:
    """Read the source that the config names.

    Raises:
      DataError: an unknown name, with the nearest known one.
    """
    source, _, argument = config.name.partition(":")
    if "." not in source and source not in names():
        raise DataError(
            f"data.name: unknown dataset {config.name!r}{nearest(source, names())}",
            f"use one of {', '.join(_usages())}",
        )
    return plugins.load(sources.__name__, source, "dataset", ("load",)).load(config, argument)


def of_targets(name: str) -> str:
    """Return the dataset that holds the targets of a dataset by themselves, with labels of their own.

    It is the dataset itself unless its source is made of other data and names them: `targets(argument)`.
    """
    source, _, argument = name.partition(":")
    if "." not in source and source not in names():
        return name
    targets = getattr(plugins.load(sources.__name__, source, "dataset"), "targets", None)
    return name if targets is None else targets(argument)


def _usages() -> list[str]:
    """Return the form of each source's names: its USAGE, or the name of the source."""
    modules = {name: plugins.load(sources.__name__, name, "dataset") for name in names()}
    return [getattr(module, "USAGE", name) for name, module in modules.items()]


def load(config: Config | None = None, **changes) -> Dataset:
    """Load the dataset that the config names; `load(name="digits")` is the short form.

    Args:
      config: the data section of a config.
      changes: fields to change in it.

    Raises:
      ConfigError: an unknown field, or a value out of its range.
      DataError: the data is unknown, missing, corrupt or of another form.
    """
    try:
        config = dataclasses.replace(config or Config(), **changes)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data: {error}") from error
    got = read(config)
    if config.binarise is not None:
        got = _binarised(got, config.binarise)
    if config.downsample is not None:
        got = _downsampled(got, config.downsample)
    train = _split(config, "train", got.train)
    held = _split(config, "eval", got.eval)
    special = dict(getattr(got.tokenizer, "special", {}))
    spec = Spec(dict(got.elements), len(train), special, got.paired, got.held_pairs)
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


def _binarised(got: Loaded, how: str) -> Loaded:
    """Return the data with its images in black and white."""
    elements, (train, held) = binarised(got.elements, [got.train, got.eval], how == "draw")
    content = f"{got.content} binarised {how}"
    return got._replace(elements=elements, train=train, eval=held, content=content)


def _downsampled(got: Loaded, factor: int) -> Loaded:
    """Return the data with a small copy of each image as its condition."""
    elements, (train, held) = downsampled(got.elements, [got.train, got.eval], factor)
    content = f"{got.content} downsampled {factor}"
    return got._replace(elements=elements, train=train, eval=held, content=content, paired=True)


def _split(config: Config, name: str, rows: Rows) -> Split:
    if not len(rows):
        raise DataError(
            f"{config.name!r} has no rows in its {name} part", "add data, or choose another split"
        )
    return Split(name, first(rows, config.limit))
