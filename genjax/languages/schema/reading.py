"""Read a JSON schema: its parts, with their places in the document, and what is refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from genjax.errors import ConfigError

DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
)
"""The dialects that are read. What differs between them is refused."""
TYPED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": (
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "minContains", "maxContains"),
    ),
    "object": (
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties"),
    ),
}
"""The keywords that restrict values of one type."""
IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "$ref")
"""The keywords whose schemas apply to the same value."""
SUPPORTED = {
    *("type", "enum", "const", "dependentRequired"),
    *IN_PLACE,
    *(keyword for keywords in TYPED.values() for keyword in keywords),
}
ANNOTATIONS = {
    *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default"),
    *("examples", "deprecated", "readOnly", "writeOnly"),
    *("contentEncoding", "contentMediaType", "contentSchema"),
}
"""The keywords that restrict nothing."""
REFUSED = {
    "$dynamicRef": "references that depend on the path to them are not supported; use $ref",
    "$recursiveRef": "references that depend on the path to them are not supported; use $ref",
    "unevaluatedItems": "it is not supported; use items",
    "unevaluatedProperties": "it is not supported; use additionalProperties",
    "additionalItems": "it is not supported; use prefixItems and items",
    "dependencies": "it is not supported; use dependentRequired or dependentSchemas",
    "$vocabulary": "it is not supported",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """Hold a schema inside of the document.

    Attributes:
      value: the schema.
      pointer: its JSON pointer, from "#".
      resolver: finds what its references mean.
    """

    value: Any
    pointer: str
    resolver: Any = dataclasses.field(repr=False)

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the value of a keyword."""
        return self.value.get(keyword, default) if isinstance(self.value, Mapping) else default

    def has(self, *keywords: str) -> bool:
        """Return whether it has one of the keywords."""
        return isinstance(self.value, Mapping) and any(k in self.value for k in keywords)


def refusal(node: Node, keyword: str, reason: str) -> ConfigError:
    """Return the error of a keyword that cannot be kept."""
    where = f"{node.pointer}/{_escaped(keyword)}"
    return ConfigError(
        f"the JSON schema uses {keyword!r} at {where}: {reason}",
        "docs/guides/constraints.md lists the keywords",
    )


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
      ConfigError: it is not JSON, or repeats a name.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"the JSON schema has {twice!r} twice in one object", "leave one of them out")
        return found

    def constant(name: str) -> Any:
        raise ConfigError(f"the JSON schema holds {name}, which is not JSON", "leave it out")

    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the JSON schema is not JSON: {error}", "see json.org") from error


class Reader:
    """Find the nodes of a schema.

    Raises:
      ConfigError: the schema is not valid, or in a dialect that is not supported.
    """

    def __init__(self, document: Any):
        import referencing
        import referencing.jsonschema

        _check(document)
        self._nodes: dict[int, Node] = {}
        self._made: dict[tuple[Node, str], list[Node]] = {}
        self._old = isinstance(document, Mapping) and "draft-0" in document.get("$schema", "")
        self._dialect = referencing.jsonschema.specification_with(
            document.get("$schema", DRAFTS[0]) if isinstance(document, Mapping) else DRAFTS[0]
        )
        resource = self._dialect.create_resource(document)
        # Without an $id the document is at the empty URI.
        identity = resource.id() or ""
        registry = referencing.Registry().with_resource(identity, resource).crawl()
        self.root = self._node(document, "#", registry.resolver(identity))

    def _node(self, value: Any, pointer: str, resolver: Any) -> Node:
        """Return the node of a schema: one for each, however many references lead to it."""
        if isinstance(value, bool):
            return Node(value, pointer, resolver)
        if id(value) not in self._nodes:
            self._nodes[id(value)] = node = Node(value, pointer, resolver)
            self._check_keywords(node)
        return self._nodes[id(value)]

    def _check_keywords(self, node: Node) -> None:
        for keyword, value in node.value.items():
            if keyword in REFUSED and not (keyword.startswith("unevaluated") and value is True):
                raise refusal(node, keyword, REFUSED[keyword])
            known = keyword in SUPPORTED or keyword in ANNOTATIONS or keyword in REFUSED
            if not known and keyword != "$dynamicAnchor" and not keyword.startswith("x-"):
                raise refusal(node, keyword, "no such keyword is known; prefix your own with x-")
        if node.get("enum") == []:
            raise refusal(node, "enum", "it is empty")
        if isinstance(node.get("items"), list):
            raise refusal(node, "items", "a list of schemas is not supported; use prefixItems")
        if self._old and "$ref" in node.value and set(node.value) - ANNOTATIONS - {"$ref"}:
            raise refusal(node, "$ref", "in this draft it replaces the keywords beside it; move them")

    def child(self, node: Node, *path: str | int) -> Node:
        """Return the schema at a path of keywords, names and places inside of a node."""
        value = node.value
        for part in path:
            value = value[part]
        pointer = "/".join((node.pointer, *map(_escaped, path)))
        resolver = node.resolver
        if isinstance(value, Mapping) and "$id" in value:
            resolver = resolver.in_subresource(self._dialect.create_resource(value))
        return self._node(value, pointer, resolver)

    def children(self, node: Node, keyword: str) -> list[Node]:
        """Return the schemas of a list of them; none without the keyword."""
        return [self.child(node, keyword, i) for i in range(len(node.get(keyword, ())))]

    def target(self, node: Node) -> Node:
        """Return the schema that $ref names.

        Raises:
          ConfigError: it is not in this document.
        """
        import referencing.exceptions

        reference = node.get("$ref")
        try:
            found = node.resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError) as error:
            raise refusal(node, "$ref", f"{reference!r} is not in this document") from error
        if not isinstance(found.contents, bool | Mapping):
            raise refusal(node, "$ref", f"{reference!r} is no schema")
        pointer = reference if reference.startswith("#") else f"{node.pointer}/$ref"
        return self._node(found.contents, pointer, found.resolver)

    def constants(self, node: Node, keyword: str) -> list[Node]:
        """Return schemas for the values of const or enum: of arrays and objects in terms of their parts."""
        if (node, keyword) not in self._made:
            values = [node.get("const")] if keyword == "const" else node.get("enum")
            made = [Node(_structure(value), f"{node.pointer}/{keyword}", node.resolver) for value in values]
            self._nodes |= {id(n.value): n for n in made}
            self._made[node, keyword] = made
        return self._made[node, keyword]

    def in_place(self, node: Node) -> Iterator[Node]:
        """Yield the schemas that apply to the same value."""
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self.children(node, keyword)
        for keyword in ("not", "if", "then", "else"):
            if node.has(keyword):
                yield self.child(node, keyword)
        for name in node.get("dependentSchemas", {}):
            yield self.child(node, "dependentSchemas", name)
        if node.has("$ref"):
            yield self.target(node)
        for keyword in ("const", "enum"):
            if node.has(keyword):
                yield from self.constants(node, keyword)


LITERAL: Any = ("literal",)
"""The keyword of one null, boolean, number or string, which no document can have."""


def _structure(value: Any) -> dict[str, Any]:
    """Return a schema of exactly one value."""
    if isinstance(value, Mapping):
        return {
            "type": "object",
            "properties": {name: {"const": inner} for name, inner in value.items()},
            "required": list(value),
            "additionalProperties": False,
        }
    if isinstance(value, list):
        size = len(value)
        items = [{"const": inner} for inner in value]
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}
    return {LITERAL: value}


def _check(document: Any) -> None:
    """Raise the error of a schema that is not valid."""
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import best_match

    dialect = document.get("$schema", DRAFTS[0]) if isinstance(document, Mapping) else DRAFTS[0]
    if not isinstance(dialect, str) or dialect.rstrip("#") not in DRAFTS:
        raise ConfigError(
            f"the JSON schema uses '$schema' at #/$schema: {dialect!r} is not supported", f"use {DRAFTS[0]}"
        )
    validator = validators.validator_for({"$schema": dialect}, Draft202012Validator)
    try:
        error = best_match(validator(validator.META_SCHEMA).iter_errors(document))
    except RecursionError:
        raise ConfigError("the JSON schema is nested too deeply", "give a flatter one") from None
    if error is not None:
        where = "/".join(("#", *map(_escaped, error.absolute_path)))
        raise ConfigError(f"the JSON schema is not valid at {where}: {error.message}", "see json-schema.org")
