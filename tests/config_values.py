"""Values of config fields: which of them a type declares, and how they are drawn."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from hypothesis import strategies as st

from genjax.config import Range

NASTY: tuple[Any, ...] = (
    *(None, True, False, "", " ", "abc", "adan", "none", "nan", "Infinity", "10", "0,8", "(", "[", "*", "\\"),
    *("../up", "/etc", "a/b", "..", ".", "a..b", ".a", "os.path", "\0", "a\nb", "\ud800", "é", "x" * 300),
    *(math.nan, math.inf, -math.inf, 0, -0.0, 1, 1.0, 10.0, 1.7, 0.5, -1, -0.5, 2, 3, 5e-324, 1e-40, 1e300),
    *(2**31 - 1, 2**31, 2**32, -(2**31), 10**30, -(10**400), 10**400, 100_000),
    *([], [1], [0], [-1], [1.0], [1.5], ["a"], [[]], [{}], [None], [math.nan], [5, 1], [1, 5], [["(", "i"]]),
    *([["a", "iox"]], [["a", ["foo"]]], {}, {"a": 1}, {"": {}}, {"../x": {}}, {"a": {"b": {"c": math.inf}}}),
)
"""Values that are wrong for most fields, and some that are right in another spelling."""


def permits(hint: Any, value: Any) -> bool:
    """Return whether a value, as JSON or a Python literal has it, is one that a type declares."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is Any:
        return not any(isinstance(x, float) and not _normal(x) for x in leaves(value))
    if origin is Annotated:
        return permits(args[0], value) and all(_within(rule, value) for rule in args[1:])
    if origin in (typing.Union, types.UnionType):
        return any(permits(a, value) for a in args)
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping) and _all_fields(hint, value)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and _all_items(args, value)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        inner = args or (Any, Any)
        return isinstance(value, Mapping) and all(
            permits(inner[0], k) and permits(inner[1], v) for k, v in value.items()
        )
    return _scalar(hint, value)


def _scalar(hint: Any, value: Any) -> bool:
    if hint is type(None):
        return value is None
    if hint is str:
        return isinstance(value, str) and _is_text(value)
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    if not isinstance(value, (int, float)):
        return False
    if hint is float:
        return _normal(value)
    whole = isinstance(value, int) or value.is_integer()
    return hint is int and whole and -(2**31) < value < 2**32


def _is_text(value: str) -> bool:
    """Return whether a text has no surrogates but those that stand for bytes of a path."""
    return not any(0xD800 <= ord(c) < 0xDC80 or 0xDD00 <= ord(c) < 0xE000 for c in value)


def _normal(value: float) -> bool:
    """Return whether a number is zero or a normal number of 32 bits."""
    return value == 0 or (abs(value) >= 2.0**-126 and abs(value) < 2.0**128 and value == value)


def _within(rule: Any, value: Any) -> bool:
    if not isinstance(rule, Range):
        return rule.fault(value) is None
    return (
        (rule.least is None or rule.least <= value)
        and (rule.most is None or value <= rule.most)
        and (rule.above is None or rule.above < value)
        and (rule.below is None or value < rule.below)
    )


def _all_fields(cls: Any, value: Mapping[str, Any]) -> bool:
    hints = typing.get_type_hints(cls, include_extras=True)
    return all(k in hints and permits(hints[k], v) for k, v in value.items())


def _all_items(args: tuple[Any, ...], value: Any) -> bool:
    if len(args) == 2 and args[1] is Ellipsis:
        return all(permits(args[0], v) for v in value)
    return len(args) == len(value) and all(permits(a, v) for a, v in zip(args, value, strict=True))


def leaves(value: Any) -> Iterator[Any]:
    """Yield the values in nested lists and sections."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def parts(hint: Any) -> Iterator[Any]:
    """Yield the types of which a type is made, Annotated ones whole."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType, tuple, dict, Mapping):
        for each in typing.get_args(hint):
            yield from parts(each)
    else:
        yield hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def near(hint: Any) -> st.SearchStrategy[Any]:
    """Return values at and around the ends of the ranges of a type, and misspelt choices."""
    found: list[Any] = []
    for part in parts(hint):
        if typing.get_origin(part) is Literal:
            found += [y for x in typing.get_args(part) for y in (x, f"{x}", f"{x} ", f"{x}"[:-1])]
        for rule in typing.get_args(part)[1:] if typing.get_origin(part) is Annotated else ():
            if isinstance(rule, Range):
                found += [y for x in dataclasses.astuple(rule) if x is not None for y in _around(x)]
    return st.sampled_from(found) | st.lists(st.sampled_from(found), max_size=2) if found else st.nothing()


def _around(x: float) -> tuple[Any, ...]:
    return (x, float(x), x - 1, x + 1, x - 0.5, str(x), *map(float, (math.nextafter(x, 0), x * (1 + 1e-6))))


def value_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return any values, most of them near those that a type declares."""
    return near(hint) | st.sampled_from(NASTY) | JSON
