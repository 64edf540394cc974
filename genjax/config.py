"""Build the frozen dataclasses of a config from plain values, and check their ranges. Standard library only.

A field declares its range in its type: `dropout: Rate = 0.1`, `layers: Count = 4`, or
`sigma: Annotated[float, Range(above=0, most=2)] = 0.1`. `build` refuses any other value. A range is a `Rule`;
`plugins.Entry` is another one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

from genjax.errors import ConfigError, nearest

T = TypeVar("T")
BELOW = 2**31
"""Integers lie between -BELOW and BELOW (excluded) if their range says nothing else: they fit into int32."""
SMALLEST, LARGEST = 2.0**-126, (2 - 2**-23) * 2.0**127
"""The normal numbers of 32 bits. A network would see zero or infinity in place of others."""


@runtime_checkable
class Rule(Protocol):
    """Declare which values of a type a field permits: Annotated[TYPE, rule]. `str(rule)` is them in words."""

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value of the type; None if it is permitted."""
        ...


@dataclasses.dataclass(frozen=True)
class Range:
    """Declare the range of a number: Annotated[float, Range(above=0, most=1)].

    Attributes:
      least, most: bounds that are themselves allowed.
      above, below: bounds that are not.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def fault(self, value: float) -> str | None:
        inside = (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        return None if inside else f"is out of range, it must be {self}"

    def __str__(self) -> str:
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)


class Pattern:
    """Declare that a text is a regular expression."""

    def fault(self, value: str) -> str | None:
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            return f"is not a regular expression: {error}"
        return None

    def __str__(self) -> str:
        return "a regular expression"


class Named:
    """Declare that a text names something outside the config: a file, a folder, a dataset."""

    def fault(self, value: str) -> str | None:
        return None if value and "\0" not in value else "is not a name"

    def __str__(self) -> str:
        return "text that is not empty and has no character of code 0"


class Part:
    """Declare that a text can be the name of a folder: of a run, a stage, an average, an entry."""

    def fault(self, value: str) -> str | None:
        if value in ("", ".", "..") or set(value) & set("/\\") or not value.isprintable():
            return "is not the name of a folder"
        if len(value.encode()) > 200:
            return "has more than 200 bytes"
        return None

    def __str__(self) -> str:
        return "a name of printable characters other than '/' and '\\', of 200 bytes at most"


Natural = Annotated[int, Range(least=0, below=BELOW)]
Count = Annotated[int, Range(least=1, below=BELOW)]
Rows = Annotated[int, Range(least=1, most=2**24)]
"""Rows, tokens or pixels that are held in memory at once."""
Width = Annotated[int, Range(least=1, most=2**20)]
"""Features, channels or rows of a layer."""
Layers = Annotated[int, Range(least=1, most=1000)]
Seed = Annotated[int, Range(least=0, below=2**32)]
Positive = Annotated[float, Range(above=0, most=1e12)]
NotNegative = Annotated[float, Range(least=0, most=1e12)]
Share = Annotated[float, Range(least=0, most=1)]
Probability = Annotated[float, Range(above=0, most=1)]
Rate = Annotated[float, Range(least=0, below=1)]
"""A probability of dropping something: never all of it."""
Multiple = Annotated[float, Range(above=0, most=1000)]
"""A width as a multiple of another."""
Signed = Annotated[float, Range(least=-1000, most=1000)]
"""A scale or a penalty of either sign."""
Regex = Annotated[str, Pattern()]
Name = Annotated[str, Named()]
"""The name of something outside the config, such as the path of a file."""
Folder = Annotated[str, Part()]
"""The name of something that gets a folder of this name, or is a part of a path."""


def build(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Return `cls(**values)`; the fields that are left out get their defaults.

    Args:
      cls: a frozen dataclass; nested dataclass fields are built from nested mappings.
      values: the section of the config.
      path: the dotted name of the section, for error messages.

    Raises:
      ConfigError: an unknown or missing key, or a value of another type or out of its range; names the key,
        and the nearest known one.
    """
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    out = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else key
        if key not in fields:
            raise ConfigError(
                f"unknown config key {where!r}{nearest(key, fields)}",
                f"known keys of {path or cls.__name__}: {', '.join(sorted(fields))}",
            )
        out[key] = coerce(hints[key], value, where, _default(fields[key]))
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
        raise ConfigError(
            f"{path or cls.__name__}: {error}", "change one of the fields that it names, or leave it out"
        ) from error


def coerce(hint: Any, value: Any, where: str, default: Any = dataclasses.MISSING) -> Any:
    """Return `value` as the type that a field or parameter declares.

    Args:
      hint: the type; Annotated with rules to check.
      where: the dotted name of the field, for error messages.
      default: of the field, for the hint of the error.

    Raises:
      ConfigError: the value has another type or is out of range; names both.
    """
    try:
        return _coerce(hint, value, where)
    except ConfigError as error:
        if error.hint:
            raise
        usual = "" if default is dataclasses.MISSING else f"; the default is {default!r}"
        raise ConfigError(error.message, f"give {describe(hint)}{usual}") from None


def check(config: Any) -> None:
    """Check the fields of a config that was made without `build`; called by its __post_init__.

    Raises:
      ValueError: a field has another type or is out of its range.
    """
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        try:
            coerce(hints[field.name], getattr(config, field.name), field.name)
        except ConfigError as error:
            raise ValueError(error.message) from None


def unused(config: Any, choice: str, *fields: str) -> None:
    """Refuse fields without effect at the value of the field `choice`, if they differ from their defaults.

    Raises:
      ValueError: one does.
    """
    for field in dataclasses.fields(config):
        if field.name in fields and getattr(config, field.name) != _default(field):
            raise ValueError(f"{field.name} has no effect with {choice}={getattr(config, choice)!r}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def describe(hint: Any) -> str:
    """Return a type in words: "an integer at least 1, or None"."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is Annotated:
        rules = [a for a in args[1:] if isinstance(a, Rule)]
        # What a text must be says that it is one.
        return " ".join((*(() if args[0] is str and rules else (describe(args[0]),)), *map(str, rules)))
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(a) for a in sorted(args, key=lambda a: a is type(None)))
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"a list, each item {describe(args[0])}"
        return f"a list of ({', '.join(map(describe, args))})"
    if dataclasses.is_dataclass(hint) or hint in (dict, Mapping) or origin in (dict, Mapping):
        return "a section of keys and values"
    words = {int: "an integer", float: "a finite number", str: "text", bool: "True or False", Any: "a value"}
    return words.get(hint) or ("None" if hint is type(None) else getattr(hint, "__name__", str(hint)))


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the declared type."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is Any:
        return _anything(value, where)
    if origin is Annotated:
        return _checked(args[1:], _coerce(args[0], value, where), where)
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


def _anything(value: Any, where: str) -> Any:
    """Return a value of any type. A number in it must be finite: JSON has no other ones."""
    if isinstance(value, Mapping):
        return {k: _anything(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_anything(v, where) for v in value)
    return _float(value, where) if isinstance(value, float) else value


def _checked(rules: Iterable[Any], value: Any, where: str) -> Any:
    """Return `value` if it satisfies every rule."""
    for rule in rules:
        if isinstance(rule, Rule) and (fault := rule.fault(value)):
            raise ConfigError(f"{where}: {shown(value)} {fault}")
    return value


def shown(value: Any) -> str:
    """Return a value as an error message shows it: on one line, and not at any length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits
        return f"a value of the type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


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
    # One hint for all options: that of a single one would hide the others.
    raise errors[0] if len(errors) == 1 else ConfigError(errors[0].message)


def _section(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    # Config objects of other libraries are not Mappings, but have items().
    if not hasattr(value, "items"):
        raise ConfigError(f"{where}: expected a section, got {shown(value)}")
    return build(cls, dict(value), where)


def _choice(options: tuple[Any, ...], value: Any, where: str) -> Any:
    # 1 == True, but a choice is of the same type.
    if not any(type(value) is type(o) and value == o for o in options):
        raise ConfigError(
            f"{where}: {shown(value)} is not a choice{nearest(str(value), map(str, options))}",
            f"choose one of {', '.join(map(str, options))}",
        )
    return value


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """Return the items of a tuple[X, ...], or of a tuple[X, Y] of exactly that many items."""
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise ConfigError(f"{where}: expected a sequence, got {shown(value)}")
    items = tuple(value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_coerce(args[0], v, where) for v in items)
    if not args:
        return items
    if len(items) != len(args):
        raise ConfigError(f"{where}: expected {len(args)} items, got {shown(value)}")
    return tuple(_coerce(a, v, where) for a, v in zip(args, items, strict=True))


def _mapping(args: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not hasattr(value, "items"):
        raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
    outer, inner = args if len(args) == 2 else (Any, Any)
    return {coerce(outer, k, where): _coerce(inner, v, f"{where}.{k}") for k, v in value.items()}


def _scalar(hint: Any, value: Any, where: str) -> Any:
    """Return a number, string or other plain value; 2 is also a float, and 2.0 an int."""
    if _is_number(value):
        if hint is float:
            value = _float(value, where)
        elif hint is int and not isinstance(value, int) and math.isfinite(value) and value == int(value):
            value = int(value)
    # bool is a subclass of int, but True is no number of layers.
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is int)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {shown(value)} ({type(value).__name__})")
    if hint is int and not -BELOW < value < 2 * BELOW:
        raise ConfigError(f"{where}: {shown(value)} is too large for a 32-bit integer")
    if hint is str and isinstance(value, str) and not _is_text(value):
        raise ConfigError(f"{where}: {shown(value)} is not Unicode text")
    return value


def _is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8, or is a path of other bytes, which Python keeps."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: Any) -> bool:
    """Return whether a value is a real number. NumPy's scalars are, True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _float(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise ConfigError(f"{where}: {shown(value)} is not a finite number")
    if abs(number) > LARGEST:
        raise ConfigError(f"{where}: {shown(value)} is too large, it is not a finite number of 32 bits")
    if 0 < abs(number) < SMALLEST:
        raise ConfigError(f"{where}: {shown(value)} is too small for a number of 32 bits, in which it is 0")
    return number
