"""Config values become the types that the dataclasses declare, or one clear error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from genjax.config import build
from genjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Section:
    width: int
    rate: float = 1.0
    name: str | None = None
    order: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    inner: Inner = dataclasses.field(default_factory=Inner)
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)
    either: int | tuple[int, ...] = 0
    any: Any = None
    on: bool = False

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width must be positive")


def test_values_become_the_declared_types():
    raw = {"width": 2.0, "rate": 3, "sizes": [1, 2.0], "inner": {"rate": 2}, "options": {"x": 1}}
    got = build(Section, {**raw, "either": [1], "any": {"k": 1}, "name": "n"})
    want = Section(2, 3.0, "n", sizes=(1, 2), inner=Inner(2.0), options={"x": 1.0}, either=(1,), any={"k": 1})
    assert got == want
    assert type(got.width) is int
    assert type(got.rate) is float
    assert type(got.options["x"]) is float
    assert build(Section, {"width": 1, "inner": Inner(3.0), "name": None}).inner == Inner(3.0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, r"missing config key model\.width"),
        ({"widht": 1}, r"unknown config key 'model\.widht' \(did you mean 'width'"),
        ({"width": "2"}, r"model\.width: expected int, got '2' \(str\)"),
        ({"width": True}, r"model\.width: expected int, got True"),
        ({"width": 1.5}, r"model\.width: expected int, got 1\.5"),
        ({"width": 0}, "model: width must be positive"),
        ({"width": 1, "rate": True}, r"model\.rate: expected float"),
        ({"width": 1, "on": 1}, r"model\.on: expected bool"),
        ({"width": 1, "name": 1}, r"model\.name: expected str"),
        ({"width": 1, "order": "c"}, r"model\.order: 'c' is not a choice"),
        ({"width": 1, "sizes": "12"}, r"model\.sizes: expected a sequence"),
        ({"width": 1, "sizes": 1}, r"model\.sizes: expected a sequence"),
        ({"width": 1, "sizes": ["1"]}, r"model\.sizes: expected int"),
        ({"width": 1, "inner": 1}, r"model\.inner: expected a section"),
        ({"width": 1, "inner": {"rat": 1}}, r"unknown config key 'model\.inner\.rat'"),
        ({"width": 1, "options": [1]}, r"model\.options: expected a mapping"),
        ({"width": 1, "options": {"x": "1"}}, r"model\.options\.x: expected float"),
        ({"width": 1, "either": "x"}, r"model\.either: expected int"),
    ],
)
def test_values_of_another_type_are_refused(values: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        build(Section, values, "model")
