"""Build the frozen dataclasses of a config from plain values. Standard library only."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from genjax.errors import ConfigError, nearest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Return `cls(**values)`; the fields that are left out get their defaults.

    Args:
      cls: a frozen dataclass; nested dataclass fields are built from nested mappings.
      values: the section of the config.
      path: the dotted name of the section, for error messages.

    Raises:
      ConfigError: an unknown or missing key, or a value of another type; names the key, and the nearest
        known one.
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
        raise ConfigError(f"missing config key {path + '.' if path else ''}{missing[0]}", "set it to a value")
    try:
        return cls(**out)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or cls.__name__}: {error}") from error


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type that the field declares.

    Raises:
      ConfigError: the value has another type; names both.
    """
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value, where)
    if dataclasses.is_dataclass(hint):
        return _section(hint, value, where)
    if origin is typing.Literal:
        return _choice(args, value, where)
    if origin is tuple or hint is tuple:
        return _tuple(args, value, where)
    if origin is dict or hint is dict or origin is Mapping:
        return _mapping(args, value, where)
    return _scalar(hint, value, where)


def _one_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return `value` as the first type of a union that accepts it."""
    if value is None and type(None) in options:
        return None
    errors = []
    for option in (o for o in options if o is not type(None)):
        try:
            return _coerce(option, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _section(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    # Config objects of other libraries are not Mappings, but have items().
    if not hasattr(value, "items"):
        raise ConfigError(f"{where}: expected a section, got {value!r}")
    return build(cls, dict(value), where)


def _choice(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in options:
        raise ConfigError(
            f"{where}: {value!r} is not a choice{nearest(str(value), map(str, options))}",
            f"choose one of {', '.join(map(str, options))}",
        )
    return value


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ConfigError(f"{where}: expected a sequence, got {value!r}")
    inner = args[0] if len(args) == 2 and args[1] is Ellipsis else Any
    return tuple(_coerce(inner, v, where) for v in value)


def _mapping(args: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not hasattr(value, "items"):
        raise ConfigError(f"{where}: expected a mapping, got {value!r}")
    inner = args[1] if len(args) == 2 else Any
    return {k: _coerce(inner, v, f"{where}.{k}") for k, v in value.items()}


def _scalar(hint: Any, value: Any, where: str) -> Any:
    """Return a number, string or other plain value; 2 is also a float, and 2.0 an int."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    # bool is a subclass of int, but True is no number of layers.
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is int)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r} ({type(value).__name__})")
    return value
