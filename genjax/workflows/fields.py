"""Describe every field of a config: its resolved value, its default and its text in the docstring."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from genjax.settings import Settings

ENTRY = re.compile(r"^(\w+(?:, \w+)*): (.*)$")


NONE = dataclasses.MISSING
"""The default of a field that has none."""


class Field(NamedTuple):
    """Hold one field of a section; its default is NONE if it has none."""

    path: str
    value: Any
    default: Any
    text: str


def fields(settings: Settings) -> Iterator[Field]:
    """Yield every field of a config in the order of its sections.

    Sections without a dataclass (the options of the sampler, optimizers of players, stages) yield the values
    that are set.
    """
    yield Field("name", settings.name, NONE, "of the run, whose directory is runs/NAME")
    yield Field("seed", settings.seed, 0, "of initialisation and training")
    for section in ("data", "model", "optimizer", "train", "evaluate"):
        config = getattr(settings, section)
        if section == "model":
            yield Field(
                "model.name", settings.model_name, NONE, "a file of genjax/models, or a dotted module"
            )
        yield from _of(section, config)
    for section in ("sample", "optimizers", "stages"):
        for name, value in getattr(settings, section).items():
            yield Field(f"{section}.{name}", _plain(value), NONE, "")


def _of(section: str, config: Any) -> Iterator[Field]:
    texts = attributes(type(config))
    for field in dataclasses.fields(config):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default  # type: ignore[misc]
        value = getattr(config, field.name)
        yield Field(f"{section}.{field.name}", _plain(value), _plain(default), texts.get(field.name, ""))


def attributes(described: Any, heading: str = "Attributes") -> dict[str, str]:
    """Return {name: text} of a part of a docstring: Attributes of a class, or Args of a function."""
    _, _, part = (inspect.getdoc(described) or "").partition(f"{heading}:\n")
    part = re.split(r"\n\S", part, maxsplit=1)[0]
    # A field begins at the first indentation; lines that are indented more continue it.
    entries = re.split(r"\n  (?=\S)", "\n" + part)
    found = {}
    for entry in entries:
        match = ENTRY.match(" ".join(entry.split()))
        for name in match[1].split(", ") if match else ():
            found[name] = match[2] if match else ""
    return found


def _plain(value: Any) -> Any:
    """Return dataclasses, also inside mappings, as dictionaries."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def lines(settings: Settings, texts: bool = False) -> Iterator[str]:
    """Yield one line per field, in the form of an override.

    Args:
      texts: put the description of each field above it.
    """
    for field in fields(settings):
        if texts:
            yield "\n" + textwrap.fill(field.text, 100, initial_indent="# ", subsequent_indent="# ")
        changed = field.default is not NONE and field.value != field.default
        yield f"{field.path}={field.value!r}" + (f"  # default {field.default!r}" if changed else "")
