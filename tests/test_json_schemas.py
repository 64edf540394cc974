"""What the automaton of a JSON schema accepts is JSON that a validator accepts; else a keyword is refused."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings

from genjax.errors import ConfigError
from genjax.languages import operations
from genjax.languages import schema as schemas
from genjax.languages.automata import Automaton
from genjax.languages.schema import strings

GUIDE = Path(__file__).parent.parent / "docs/guides/constraints.md"
NAMES = ("a", "b", 'q"', "n/ä", "x-1")
NUMBERS = st.one_of(st.integers(-12, 120), st.sampled_from([0.5, -1.25, 3.0, 1e2, 0.1, 99.95]))
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", 'b"c', "\\", "\n", "é", "x-1", "ab"])
)
PATTERNS = ("^a", "b$", 'a|b"', "^(x-|y)", r"\d", r"^\w*$", "^[^a]{1,3}$", "(?!a)b", r"\\", "^$")
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
SMALL = st.integers(0, 3)
PLAIN = {
    "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS),
    "multipleOf": st.sampled_from([1, 3, 7, 2.0, 0.01, 0.5, 2.5]),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), SMALL
    ),
    "pattern": st.sampled_from(PATTERNS),
    "format": st.sampled_from(["date", "ipv4", "email", "uuid"]),
    "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    "dependentRequired": st.just({"a": ["b"]}),
}
"""Keywords without schemas in them."""
ONE = ("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else")
SEVERAL = ("prefixItems", "allOf", "anyOf", "oneOf")
BY_NAME = ("properties", "dependentSchemas", "patternProperties")


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> Any:
    """JSON values."""
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind < 2:
        return draw(SCALARS)
    inner = values(depth - 1)
    size = draw(st.integers(0, 2))
    if kind == 2:
        return [draw(inner) for _ in range(size)]
    return {draw(st.sampled_from(NAMES)): draw(inner) for _ in range(size)}


@st.composite
def any_schemas(draw: st.DrawFn, depth: int = 1) -> Any:
    """Schemas of one to three keywords."""
    if draw(st.integers(0, 11)) == 0:
        return draw(st.booleans())
    nested = (*ONE, *SEVERAL, *BY_NAME) if depth else ()
    keywords = draw(st.lists(st.sampled_from((*PLAIN, "const", "enum", *nested)), min_size=1, max_size=3))
    inner = any_schemas(depth - 1)
    found: dict[str, Any] = {}
    for keyword in keywords:
        if keyword in PLAIN:
            found[keyword] = draw(PLAIN[keyword])
        elif keyword == "const":
            found[keyword] = draw(values())
        elif keyword == "enum":
            found[keyword] = draw(st.lists(values(1), min_size=1, max_size=3))
        elif keyword in ONE:
            found[keyword] = draw(inner)
        elif keyword in SEVERAL:
            found[keyword] = [draw(inner), draw(inner)]
        else:
            names = PATTERNS if keyword == "patternProperties" else NAMES
            found[keyword] = {draw(st.sampled_from(names)): draw(inner) for _ in range(2)}
    return found


def walk(automaton: Automaton, rng: random.Random, distance: np.ndarray, most: int = 60) -> bytes:
    """A text of the language: at random, and after `most` bytes by the shortest way."""
    state, text = 0, b""
    while True:
        if automaton.accepts[state] and (rng.random() < 0.3 or len(text) >= most):
            return text
        ways = np.flatnonzero(automaton.step[state] >= 0)
        if not len(ways):
            return text
        if len(text) >= most:
            ways = ways[[int(np.argmin(distance[automaton.step[state, ways]]))]]
        byte = int(rng.choice(ways))
        state, text = int(automaton.step[state, byte]), text + bytes([byte])


def validator(schema: Any) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def check(schema: Any, automaton: Automaton, rng: random.Random, count: int) -> None:
    """Texts of the automaton validate."""
    distance = operations._distances(automaton)
    for text in [walk(automaton, rng, distance) for _ in range(count)]:
        error = next(validator(schema).iter_errors(json.loads(text)), None)
        assert error is None, (schema, text, error and error.message)


@given(any_schemas(), st.lists(values(), min_size=3, max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_every_text_validates(schema: Any, others: list[Any], rng: random.Random):
    try:
        automaton = schemas.automaton(schema)
    except ConfigError as error:
        # Whether there is no such value is not tested here.
        if not re.search("no JSON value was found|not clear whether", str(error)):
            raise
        return
    check(schema, automaton, rng, 12)
    for value in others:
        if automaton.matches(json.dumps(value, ensure_ascii=False).encode()):
            assert validator(schema).is_valid(value)


@st.composite
def closed(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """Schemas as programs write them: every property is named."""
    kind = draw(st.integers(0, 4)) if depth else 0
    if kind < 2:
        return draw(
            st.sampled_from(
                [
                    {"type": "integer"},
                    {"type": "string", "maxLength": 3},
                    {"const": 'a"b'},
                    {"enum": [1, None]},
                ]
            )
        )
    one, two = draw(closed(depth - 1)), draw(closed(depth - 1))
    if kind == 2:
        return {"type": "array", "items": one, "maxItems": 2}
    if kind == 3:
        return {"anyOf": [one, two]}
    names = {"a": one, 'q"': two}
    return {"type": "object", "properties": names, "required": ["a"], "additionalProperties": False}


@given(closed(), st.lists(values(), min_size=10, max_size=10))
@settings(max_examples=25)
def test_closed_schemas_accept_all_that_validates(schema: Any, others: list[Any]):
    """Nothing that a usual schema means is left out, but for other forms of the same value."""
    automaton = schemas.automaton(schema)
    for value in [*others, 1, "ab", 'a"b', [1], [], {"a": 1}, {"a": 1, 'q"': 2}]:
        text = json.dumps(ordered(value), ensure_ascii=False)
        if validator(schema).is_valid(value) and "." not in text:
            assert automaton.matches(text.encode()), value


def ordered(value: Any) -> Any:
    """The value with the properties in the order of the schemas above."""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    return [ordered(inner) for inner in value] if isinstance(value, list) else value


def rows() -> list[tuple[str, str, str]]:
    """The keyword, state and example of each row of the guide's table."""
    found = re.findall(r"^\| `([^`]+)` \| (\w+) \| `([^`]+)` \|", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert len(found) > 40
    return found


@pytest.mark.parametrize(("keyword", "state", "example"), rows(), ids=lambda x: x[:30])
def test_the_table_says_what_is_done(keyword: str, state: str, example: str):
    schema = json.loads(example.replace("\\|", "|"))
    assert f'"{keyword}"' in example
    if state == "refused":
        with pytest.raises(ConfigError, match=rf"{re.escape(keyword)}.* at #/.*"):
            schemas.automaton(schema)
        return
    assert state == "supported"
    check(schema, schemas.automaton(schema), random.Random(0), 20)


NODE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        # It is not known whether a validator checks formats, and which classes a pattern means.
        ({"type": "string", "not": {"format": "date"}}, "no JSON value was found"),
        ({"enum": ["é"], "pattern": r"^\w$"}, "no JSON value was found"),
        ({"enum": ["é"], "not": {"pattern": r"^\w$"}}, "no JSON value was found"),
        ({"enum": []}, "'enum' at #/enum: it is empty"),
        ({"properties": {"a/b": {"minimun": 3}}}, "'minimun' at #/properties/a~1b/minimun"),
        ({"format": "regex"}, "'format' at #/format: 'regex'"),
        ({"items": [{"type": "null"}]}, "'items'|not valid at #/items"),
        ({"$ref": "#"}, "back to itself"),
        ({"$ref": "http://a.example/b"}, "is not in this document"),
        ({"$ref": "#/$defs/a"}, "is not in this document"),
        ({"pattern": "(a"}, "'pattern' at #/pattern: .*is not valid"),
        ({"pattern": "(?<=a)b"}, "'pattern' at #/pattern: .*lookbehind"),
        ({"type": "strin"}, "not valid at #/type"),
        ({"minimum": "3"}, "not valid at #/minimum"),
        ({"minLength": 100_000, "type": "string"}, "too many states at #"),
        ({"minimum": 0.1234567890123456789}, "more than 15 digits"),
        ({"uniqueItems": True}, "'uniqueItems' at #/uniqueItems"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "'\\$schema' at #/\\$schema"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "minimum": 1},
            "draft",
        ),
        ({"allOf": [{"const": 1}, {"const": 2}]}, "no JSON value was found"),
        (False, "no JSON value was found"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(schema: Any, says: str):
    with pytest.raises(ConfigError, match=says):
        schemas.automaton(schema)


@pytest.mark.parametrize("text", ['{"type": "null", "type": "string"}', '{"minimum": NaN}', "{", "[" * 5000])
def test_a_schema_is_json(text: str):
    with pytest.raises(ConfigError, match="JSON schema"):
        schemas.parse(text)
    assert schemas.parse("\ufefftrue") is True


@pytest.mark.parametrize("name", strings.FORMATS)
def test_strings_have_their_format(name: str):
    """The validator checks the formats for which a package is installed."""
    schema = {"type": "string", "format": name}
    check(schema, schemas.automaton(schema), random.Random(0), 40)


def test_a_pattern_holds_as_both_read_it():
    automaton = schemas.automaton({"type": "string", "pattern": r"^\d$"})
    assert automaton.matches(b'"1"')
    assert not any(automaton.matches(text.encode()) for text in ('"٣"', '"1\\n"', '"1\n"'))


def test_recursion_is_followed_twice():
    automaton = schemas.automaton(NODE)
    texts = ["{}", '{"next": {}}', '{"next": {"next": {}}}', '{"next": {"next": {"next": {}}}}']
    assert all(automaton.matches(text.encode()) for text in texts)
    assert not automaton.matches(b'{"next": {"next": {"next": {"next": {}}}}}')


def test_white_space_is_as_asked():
    indented = schemas.automaton({"const": [1]}, "[\n ]*")
    assert indented.matches(b"[\n  1\n]")
    assert schemas.automaton({"const": {"a": 1}}, "").matches(b'{"a":1}')
    with pytest.raises(ConfigError, match="no white space of JSON"):
        schemas.automaton({"const": [1]}, "a?")
