"""Sections of a config as frozen dataclasses: the only home of defaults. Standard library only."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from genjax.errors import ConfigError, nearest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """`cls(**values)`, where an unknown key or a value of another type is one clear error.

    Args:
      cls: a frozen dataclass; nested dataclass fields are built from nested mappings.
      values: the section of the config.
      path: the section's dotted name, for the error.

    Raises:
      ConfigError: names the key, and the nearest known one.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    out = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else key
        if key not in fields:
            raise ConfigError(
                f"unknown config key {where!r}{nearest(key, fields)}",
                f"known keys of {path or cls.__name__}: {', '.join(sorted(fields))}",
            )
        out[key] = _coerce(hints[key], value, where)
    missing = [
        n
        for n, f in fields.items()
        if n not in out and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"missing config key {path + '.' if path else ''}{missing[0]}", "give it a value")
    try:
        return cls(**out)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or cls.__name__}: {error}") from error


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that the field declares, or a ConfigError that names both."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _coerce(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping) and not hasattr(value, "items"):
            raise ConfigError(f"{where}: expected a section, got {value!r}")
        return build(hint, dict(value), where)  # type: ignore[arg-type]
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(
                f"{where}: {value!r} is not a choice{nearest(str(value), map(str, args))}",
                f"choose one of {', '.join(map(str, args))}",
            )
        return value
    if origin is tuple or hint is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{where}: expected a sequence, got {value!r}")
        inner = args[0] if len(args) == 2 and args[1] is Ellipsis else Any
        return tuple(_coerce(inner, v, where) for v in value)
    if origin is dict or hint is dict or origin is Mapping:
        if not hasattr(value, "items"):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        inner = args[1] if len(args) == 2 else Any
        return {k: _coerce(inner, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is int)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r} ({type(value).__name__})")
    return value
