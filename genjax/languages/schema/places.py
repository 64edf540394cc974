"""Places in a value, with the schemas that apply there. They set which values are considered at all.

Every schema is then a set of the values that are considered, and `not`, `oneOf` and `allOf` are exact:
the complement, the difference and the intersection of such sets. What is considered:

- Objects have properties that a schema of this place names, in the order of the schemas. If a schema speaks
  of properties without naming them, or if none are named, objects have up to `slots` more.
- A place where no schema applies has no arrays and objects but empty ones.
- A schema that refers to itself is followed RECURSION times; there, too, arrays and objects are empty.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

from genjax.languages.schema.reading import Node, Reader

RECURSION = 2
"""How often a schema is applied again inside of a value that it applies to."""
SLOTS = 2
"""Properties without a name, where a schema speaks of such."""
MOST_SLOTS = 6


class Place:
    """Describe a place in a value.

    Args:
      given: the schemas that apply here.
      path: how often each schema applies on the way from the root to this place.

    Attributes:
      nodes: also those that they apply at the same place.
      flat: arrays and objects are empty here.
      names: the names of properties.
      slots: the number of properties without a name.
      prefix: the number of first items with a schema of their own.
    """

    def __init__(self, reader: Reader, given: Iterable[Node], path: Mapping[Node, int]):
        self._reader = reader
        self.nodes = _closure(reader, given)
        applied = [node for node in self.nodes if isinstance(node.value, Mapping)]
        self._path = {**path, **{node: path.get(node, 0) + 1 for node in applied}}
        self.flat = not self.nodes or any(self._path[node] > RECURSION + 1 for node in applied)
        self.names = list(dict.fromkeys(name for node in applied for name in _names(node)))
        self.slots = _slots(applied, len(self.names))
        self.prefix = max((len(node.get("prefixItems", ())) for node in applied), default=0)

        self._inner: dict[str | int, Place] = {}

    def _at(self, nodes: Iterable[Node]) -> Place:
        return Place(self._reader, nodes, self._path)

    def property(self, name: str) -> Place:
        """Return the place of a property."""
        if name not in self._inner:
            found = [n for node in self.nodes for n in property_schemas(self._reader, node, name)]
            self._inner[name] = self._at(found)
        return self._inner[name]

    @functools.cached_property
    def other(self) -> Place:
        """The place of the properties without a name."""
        found = []
        for node in self.nodes:
            found += [
                self._reader.child(node, "patternProperties", p) for p in node.get("patternProperties", {})
            ]
            if node.has("additionalProperties"):
                found.append(self._reader.child(node, "additionalProperties"))
        return self._at(found)

    @functools.cached_property
    def name(self) -> Place:
        """The place of a name, as a string."""
        return self._at(self._reader.child(n, "propertyNames") for n in self.nodes if n.has("propertyNames"))

    def item(self, index: int) -> Place:
        """Return the place of an item; those from `prefix` on share one."""
        index = min(index, self.prefix)
        if index not in self._inner:
            found = [n for node in self.nodes if (n := item_schema(self._reader, node, index)) is not None]
            found += [self._reader.child(n, "contains") for n in self.nodes if n.has("contains")]
            self._inner[index] = self._at(found)
        return self._inner[index]


def item_schema(reader: Reader, node: Node, index: int) -> Node | None:
    """Return the schema that a node has for an item."""
    if index < len(node.get("prefixItems", ())):
        return reader.child(node, "prefixItems", index)
    return reader.child(node, "items") if node.has("items") else None


def property_schemas(reader: Reader, node: Node, name: str) -> list[Node]:
    """Return the schemas that a node has for a property."""
    found = []
    if name in node.get("properties", {}):
        found.append(reader.child(node, "properties", name))
    patterns = node.get("patternProperties", {})
    found += [reader.child(node, "patternProperties", p) for p in patterns if re.search(p, name)]
    if not found and node.has("additionalProperties"):
        found.append(reader.child(node, "additionalProperties"))
    return found


def _closure(reader: Reader, given: Iterable[Node]) -> list[Node]:
    found: dict[Node, None] = {}
    front = list(given)
    while front:
        node = front.pop(0)
        if node in found:
            continue
        found[node] = None
        front = [*reader.in_place(node), *front]
    return list(found)


def _names(node: Node) -> list[str]:
    needs = node.get("dependentRequired", {})
    return [
        *node.get("properties", {}),
        *node.get("required", ()),
        *needs,
        *(name for names in needs.values() for name in names),
        *node.get("dependentSchemas", {}),
    ]


def _slots(nodes: Iterable[Node], named: int) -> int:
    nodes = list(nodes)
    more = any(
        node.has("patternProperties", "propertyNames", "minProperties", "maxProperties")
        or node.get("additionalProperties", False) is not False
        for node in nodes
    )
    least = max((int(node.get("minProperties", 0)) for node in nodes), default=0)
    return min(max(SLOTS, least - named), MOST_SLOTS) if more or not named else 0
