"""Compile a JSON schema, read as draft 2020-12.

A schema is a set of texts: of all the values that are considered (`places`), those that it accepts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from genjax.errors import ConfigError
from genjax.languages.automata import NOTHING, Automaton, TooLarge, words
from genjax.languages.operations import both, union, without
from genjax.languages.regexes import regex
from genjax.languages.schema import numbers, strings
from genjax.languages.schema.containers import Glue, Limits, Member, array, named, objects, unique
from genjax.languages.schema.numbers import Sizes, exact, written
from genjax.languages.schema.places import Place, item_schema, property_schemas
from genjax.languages.schema.reading import LITERAL, TYPED, Node, Reader, refusal
from genjax.languages.schema.sets import EMPTY, Set

TYPES = ("null", "boolean", "number", "string", "array", "object")
SPACE = " ?"
BLANKS = "[ \\t\\n\\r]*"


def automaton(schema: Any, space: str | None = None) -> Automaton:
    """Return the automaton of JSON texts that a schema accepts, not of all: see `places`.

    Args:
      space: a regular expression of the white space after brackets, commas and colons and before closing
        brackets; None for at most one space.

    Raises:
      ConfigError: the schema is not valid, uses what is not supported, or accepts nothing.
    """
    reader = Reader(schema)
    found = _Compiler(reader, Sizes.of(schema), _glue(space)).texts()
    if not found.sure.empty:
        return found.sure
    if not found.maybe.empty:
        reason = (
            "format, or multiples of a fraction, are supported in part only, and not in 'not' and 'oneOf'"
        )
    else:
        reason = "objects have few properties that it does not name, and recursion is followed twice"
    raise ConfigError(
        "no JSON value was found that the JSON schema accepts", f"look for what contradicts itself; {reason}"
    )


@functools.lru_cache(maxsize=16)
def _glue(space: str | None) -> Glue:
    found = regex(SPACE if space is None else space)
    if not without(found, regex(BLANKS)).empty:
        raise ConfigError(f"whitespace={space!r} matches what is no white space of JSON", "give [ \\t\\n\\r]")
    return Glue(found)


class _Compiler:
    def __init__(self, reader: Reader, sizes: Sizes, glue: Glue):
        self.reader = reader
        self.sizes = sizes
        self.glue = glue
        self.found: dict[tuple[Node, Place], Set] = {}
        self.universes: dict[tuple[Place | None, str], Set] = {}
        self.others: dict[tuple[Place, int], Automaton] = {}
        self.inside: list[tuple[Node, Place]] = []
        self.always = Node(True, "#", None)

    def texts(self) -> Set:
        """Return the texts of the whole schema."""
        root = self.reader.root
        return self.texts_of(root, Place(self.reader, [root], {}))

    def texts_of(self, node: Node, place: Place) -> Set:
        """Return the texts at a place that a schema accepts."""
        key = (node, place)
        if key in self.inside:
            raise refusal(node, "$ref", "it leads back to itself at the same value")
        if key not in self.found:
            self.inside.append(key)
            try:
                self.found[key] = self._texts(node, place)
            except TooLarge:
                raise _too_large(node) from None
            self.inside.pop()
        return self.found[key]

    def _texts(self, node: Node, place: Place) -> Set:
        if isinstance(node.value, bool):
            return self.considered(place) if node.value else EMPTY
        if node.has(LITERAL):
            return Set.of(_literal(node.value[LITERAL]))
        parts = list(self._parts(node, place)) or [self.considered(place)]
        return functools.reduce(lambda a, b: a & b, parts)

    def _parts(self, node: Node, place: Place) -> Iterable[Set]:
        """Yield sets whose intersection is the schema's, the smaller first."""
        for keyword in ("const", "enum"):
            if node.has(keyword):
                yield self._any(self.reader.constants(node, keyword), place)
        if node.has("type", *(k for keywords in TYPED.values() for k in keywords)):
            yield self._typed(node, place)
        if node.has("$ref"):
            yield self.texts_of(self.reader.target(node), place)
        for inner in self.reader.children(node, "allOf"):
            yield self.texts_of(inner, place)
        if node.has("anyOf"):
            yield self._any(self.reader.children(node, "anyOf"), place)
        if node.has("oneOf"):
            yield self._one([self.texts_of(n, place) for n in self.reader.children(node, "oneOf")])
        if node.has("not"):
            yield self.considered(place) - self.texts_of(self.reader.child(node, "not"), place)
        if node.has("if"):
            yield self._conditional(node, place)
        yield from self._dependent(node, place)

    def _any(self, nodes: Sequence[Node], place: Place) -> Set:
        return Set.any([self.texts_of(n, place) for n in nodes])

    def _one(self, sets: Sequence[Set]) -> Set:
        """Return the texts of exactly one of the sets."""
        once, twice = EMPTY, EMPTY
        for found in sets:
            twice = Set.any([twice, once & found])
            once = Set.any([once, found])
        return once - twice

    def _conditional(self, node: Node, place: Place) -> Set:
        everything = self.considered(place)
        condition = self.texts_of(self.reader.child(node, "if"), place)
        branch = lambda k: self.texts_of(self.reader.child(node, k), place) if node.has(k) else everything
        return Set.any([condition & branch("then"), (everything - condition) & branch("else")])

    def _dependent(self, node: Node, place: Place) -> Iterable[Set]:
        """Yield the sets of dependentRequired and dependentSchemas."""
        if not node.has("dependentRequired", "dependentSchemas"):
            return
        everything = self.considered(place)
        for name, needs in node.get("dependentRequired", {}).items():
            have = self._objects(self.always, place, required=(name,))
            more = self._objects(self.always, place, required=(name, *needs))
            yield Set.any([everything - have, more])
        for name in node.get("dependentSchemas", {}):
            have = self._objects(self.always, place, required=(name,))
            more = self.texts_of(self.reader.child(node, "dependentSchemas", name), place)
            yield Set.any([everything - have, more])

    def considered(self, place: Place) -> Set:
        """Return all texts at a place."""
        return self._all(place, "any")

    def _all(self, place: Place, kind: str) -> Set:
        """Return all texts of a type at a place."""
        key = (place if place.nodes else None, kind)
        if key not in self.universes:
            if kind == "any":
                self.universes[key] = Set.any([self._all(place, kind) for kind in TYPES])
            else:
                self.universes[key] = self._of_type(self.always, place, kind)
        return self.universes[key]

    def _typed(self, node: Node, place: Place) -> Set:
        """Return the texts that the keywords for each type accept."""
        given = node.get("type", TYPES)
        types = (given,) if isinstance(given, str) else tuple(given)
        found = []
        for kind in TYPES:
            whole = kind == "number" and "integer" in types and kind not in types
            if kind in types or whole:
                restricted = whole or node.has(*TYPED.get(kind, ()))
                found.append(
                    self._of_type(node, place, kind, whole) if restricted else self._all(place, kind)
                )
        return Set.any(found)

    def _of_type(self, node: Node, place: Place, kind: str, whole: bool = False) -> Set:
        if kind == "null":
            return Set.of(words(["null"]))
        if kind == "boolean":
            return Set.of(words(["true", "false"]))
        if kind == "number":
            return self._numbers(node, whole)
        if kind == "string":
            return self._strings(node)
        return self._arrays(node, place) if kind == "array" else self._objects(node, place)

    def _numbers(self, node: Node, whole: bool) -> Set:
        low = _bound(node, "minimum", "exclusiveMinimum", max)
        high = _bound(node, "maximum", "exclusiveMaximum", min)
        found = numbers.number(self.sizes, whole, low, high)
        if not node.has("multipleOf"):
            return Set.of(found)
        divisor = node.get("multipleOf")
        step = exact(divisor)
        if step != int(step) or step > numbers.MODULUS:
            some = numbers.some_multiples(
                divisor, None if low is None else low[0], None if high is None else high[0]
            )
            return Set(both(found, some), found)
        return Set.of(both(both(found, numbers.integers(self.sizes)), numbers.multiples(int(step))))

    def _strings(self, node: Node) -> Set:
        found = strings.strings()
        if node.has("minLength", "maxLength"):
            most = node.get("maxLength")
            found = strings.sized(int(node.get("minLength", 0)), most if most is None else int(most))
        texts = Set.of(found)
        if node.has("pattern"):
            texts &= _matching(node, "pattern", node.get("pattern"))
        return texts & self._format(node) if node.has("format") else texts

    def _format(self, node: Node) -> Set:
        """Return some strings of a format; it is not said whether a validator checks it."""
        name = node.get("format")
        if name not in strings.FORMATS:
            known = ", ".join(strings.FORMATS)
            raise refusal(node, "format", f"{name!r} is not supported, but {known}")
        return Set(strings.of_format(name), strings.strings())

    def _arrays(self, node: Node, place: Place) -> Set:
        sizes = _limits(node, "minItems", "maxItems")
        if place.flat:
            return Set.of(array(self.glue, [], [], sizes) if self._allows_empty(node) else NOTHING)
        items = [self._item(node, place, i) for i in range(place.prefix + 1)]
        if node.get("uniqueItems"):
            found = self._unique(node, items, sizes)
        else:
            found = Set.by(
                lambda bound: array(
                    self.glue, [[(bound(i), False)] for i in items[:-1]], [(bound(items[-1]), False)], sizes
                ),
                items,
            )
        hits = self._hits(node)
        return found if hits is None else found & self._containing(node, place, hits)

    def _item(self, node: Node, place: Place, index: int) -> Set:
        schema = item_schema(self.reader, node, index)
        inner = place.item(index)
        return self.considered(inner) if schema is None else self.texts_of(schema, inner)

    def _allows_empty(self, node: Node) -> bool:
        hits = self._hits(node)
        return hits is None or hits.least == 0

    def _hits(self, node: Node) -> Limits | None:
        if not node.has("contains"):
            return None
        limits = _limits(node, "minContains", "maxContains")
        return limits if node.has("minContains") else dataclasses.replace(limits, least=1)

    def _containing(self, node: Node, place: Place, hits: Limits) -> Set:
        """Return the arrays with so many items that `contains` accepts."""
        schema = self.reader.child(node, "contains")
        choices = []
        for index in range(place.prefix + 1):
            everything = self.considered(place.item(index))
            wanted = self.texts_of(schema, place.item(index))
            choices.append((wanted, everything - wanted))
        item = lambda bound, pair: [(bound(pair[0]), True), (bound(pair[1]), False)]
        return Set.by(
            lambda bound: array(
                self.glue, [item(bound, c) for c in choices[:-1]], item(bound, choices[-1]), hits=hits
            ),
            [part for pair in choices for part in pair],
        )

    def _unique(self, node: Node, items: Sequence[Set], sizes: Limits) -> Set:
        if all(item.known for item in items):
            found = unique(self.glue, [i.sure for i in items[:-1]], items[-1].sure, sizes)
            if found is not None:
                return Set.of(found)
        raise refusal(
            node,
            "uniqueItems",
            "it is supported for items of at most 8 values that are no arrays and objects",
        )

    def _objects(self, node: Node, place: Place, required: Sequence[str] = ()) -> Set:
        required = [*required, *node.get("required", ())]
        sizes = _limits(node, "minProperties", "maxProperties")
        if place.flat:
            return EMPTY if required else Set.of(objects(self.glue, [], sizes))
        values = {name: self._property(node, place, name) for name in place.names}
        slots = [self._slot(node, place, i) for i in range(place.slots)]

        def make(bound: Callable[[Set], Automaton]) -> Automaton:
            members = [named(n, bound(value), n in required) for n, value in values.items()]
            members += [Member(tuple((name, bound(value)) for name, value in slot)) for slot in slots]
            return objects(self.glue, members, sizes)

        return Set.by(make, [*values.values(), *(value for slot in slots for _, value in slot)])

    def _property(self, node: Node, place: Place, name: str) -> Set:
        """Return the texts of a property's value; none if it must not occur."""
        inner = place.property(name)
        found = None
        for schema in property_schemas(self.reader, node, name):
            more = self.texts_of(schema, inner)
            found = more if found is None else found & more
        found = self.considered(inner) if found is None else found
        if node.has("propertyNames"):
            names = self._names(node, place)
            if not both(without(names.maybe, names.sure), strings.literal(name)).empty:
                raise refusal(node, "propertyNames", f"it is not clear whether it accepts {name!r}")
            return EMPTY if both(names.sure, strings.literal(name)).empty else found
        return found

    def _names(self, node: Node, place: Place) -> Set:
        found = self.texts_of(self.reader.child(node, "propertyNames"), place.name)
        return found & Set.of(strings.strings())

    def _other_names(self, place: Place, index: int) -> Automaton:
        """Return names that no schema names, without those that validators may judge differently."""
        key = (place, index)
        if key not in self.others:
            unclear = [strings.literal(name) for name in place.names]
            for node in place.nodes:
                patterns = node.get("patternProperties", {})
                sets = [_matching(node, "patternProperties", pattern) for pattern in patterns]
                sets += [self._names(node, place)] if node.has("propertyNames") else []
                unclear += [without(found.maybe, found.sure) for found in sets if not found.known]
            self.others[key] = without(strings.ending(index, place.slots), union(unclear))
        return self.others[key]

    def _slot(self, node: Node, place: Place, index: int) -> list[tuple[Automaton, Set]]:
        """Return the (names, values) of properties without a name, by the patterns that the names match."""
        names = self._other_names(place, index)
        if node.has("propertyNames"):
            names = both(names, self._names(node, place).sure)
        found: list[tuple[Automaton, Set | None]] = [(names, None)]
        for pattern in node.get("patternProperties", {}):
            match = _matching(node, "patternProperties", pattern).sure
            texts = self.texts_of(self.reader.child(node, "patternProperties", pattern), place.other)
            with_it = [(both(name, match), texts if v is None else v & texts) for name, v in found]
            found = [*with_it, *((without(name, match), value) for name, value in found)]
        more = self.considered(place.other)
        if node.has("additionalProperties"):
            more = self.texts_of(self.reader.child(node, "additionalProperties"), place.other)
        pairs = [(name, more if value is None else value) for name, value in found]
        return [(name, value) for name, value in pairs if not name.empty]


def _bound(node: Node, keyword: str, exclusive: str, tighter: Callable) -> tuple[Decimal, bool] | None:
    """Return (bound, True if it is excluded); None without one."""
    found = []
    for name in (keyword, exclusive):
        if not node.has(name):
            continue
        bound = exact(node.get(name))
        if bound != int(bound) and len(bound.as_tuple().digits) > numbers.DIGITS:
            raise refusal(node, name, f"{bound} has more than {numbers.DIGITS} digits")
        found.append((bound, name == exclusive))
    if len(found) == 2 and found[0][0] == found[1][0]:
        return found[1]
    return tighter(found) if found else None


def _limits(node: Node, least: str, most: str) -> Limits:
    given = node.get(most)
    return Limits(int(node.get(least, 0)), None if given is None else int(given))


def _matching(node: Node, keyword: str, pattern: str) -> Set:
    try:
        sure, maybe = strings.matching(pattern)
        return Set(sure, maybe)
    except ConfigError as error:
        raise refusal(node, keyword, str(error)) from error
    except TooLarge:
        raise refusal(node, keyword, f"the pattern {pattern!r} needs too many states") from None


def _literal(value: Any) -> Automaton:
    if value is None:
        return words(["null"])
    if isinstance(value, bool):
        return words(["true" if value else "false"])
    return strings.literal(value) if isinstance(value, str) else words([written(value)])


def _too_large(node: Node) -> ConfigError:
    return ConfigError(
        f"the JSON schema needs too many states at {node.pointer}",
        "lower its bounds on lengths and numbers of items, or close objects with additionalProperties: false",
    )
