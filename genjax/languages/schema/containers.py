"""Arrays and objects of JSON, put together from the languages of what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from genjax.languages.automata import Automaton, words
from genjax.languages.operations import Sketch, joined, listed
from genjax.languages.schema.strings import literal

UNIQUE = 8
"""The most different items of an array whose items differ."""


@dataclasses.dataclass(frozen=True)
class Glue:
    """Hold what stands between values: punctuation with white space.

    Args:
      space: the language of the white space.
    """

    space: Automaton

    def after(self, mark: str) -> Automaton:
        """Return a punctuation mark and the white space after it."""
        return joined(words([mark]), self.space)

    def before(self, mark: str) -> Automaton:
        """Return a punctuation mark and the white space before it."""
        return joined(self.space, words([mark]))


@dataclasses.dataclass(frozen=True)
class Limits:
    """Set how many of something there may be; `most` None for any number."""

    least: int = 0
    most: int | None = None

    @property
    def cap(self) -> int:
        """A count that stands for itself and all greater ones."""
        return max(self.least, -1 if self.most is None else self.most + 1)


Item = tuple[Automaton, bool]
"""A language of an item, and whether it counts as a hit."""


def array(
    glue: Glue,
    prefix: Sequence[Sequence[Item]],
    rest: Sequence[Item],
    sizes: Limits = Limits(),
    hits: Limits = Limits(),
) -> Automaton:
    """Return arrays.

    Args:
      prefix: the languages of the items at the first places.
      rest: those of all further items.
      sizes: the number of items.
      hits: the number of items of a language that is a hit.
    """
    cap = max(len(prefix), sizes.cap, 1)
    draft = _Draft(glue, "[", "]")
    for count, hit in draft.states():
        if count >= sizes.least and hits.least <= hit and (hits.most is None or hit <= hits.most):
            draft.close((count, hit))
        if sizes.most is not None and count >= sizes.most:
            continue
        for i, (language, is_hit) in enumerate(prefix[count] if count < len(prefix) else rest):
            after = (min(count + 1, cap), min(hit + is_hit, hits.cap))
            if hits.most is None or after[1] <= hits.most:
                draft.value((count, hit), after, language, key=(min(count, len(prefix)), i), first=not count)
    return draft.automaton()


def unique(glue: Glue, prefix: Sequence[Automaton], rest: Automaton, sizes: Limits) -> Automaton | None:
    """Return arrays whose items differ; None if the items may have more than UNIQUE values, or are nested."""
    choices = [listed(language, UNIQUE) for language in (*prefix, rest)]
    if any(found is None or any(text[:1] in b"[{" for text in found) for found in choices):
        return None
    lists = [found or [] for found in choices]
    if len(set().union(*lists)) > UNIQUE:
        return None
    draft = _Draft(glue, "[", "]", start=frozenset())
    for used in draft.states():
        count = len(used)
        if count >= sizes.least and (sizes.most is None or count <= sizes.most):
            draft.close(used)
        for text in lists[min(count, len(prefix))]:
            if text not in used:
                draft.value(used, used | {text}, words([text]), key=text, first=not count)
    return draft.automaton()


@dataclasses.dataclass(frozen=True)
class Member:
    """Describe one property, or one of several that are not known by name.

    Attributes:
      choices: (language of the name, language of the value).
      required: it must occur.
    """

    choices: tuple[tuple[Automaton, Automaton], ...]
    required: bool = False


def named(name: str, value: Automaton, required: bool = False) -> Member:
    """Return a property with a name."""
    return Member(((literal(name), value),), required)


def objects(glue: Glue, members: Sequence[Member], sizes: Limits = Limits()) -> Automaton:
    """Return objects whose properties are some of the members, in their order.

    Args:
      sizes: the number of properties.
    """
    cap = max(sizes.cap, 1)
    colon = glue.after(":")
    draft = _Draft(glue, "{", "}")
    for place, count in draft.states():
        if place == len(members):
            if count >= sizes.least:
                draft.close((place, count))
            continue
        member = members[place]
        if not member.required:
            draft.skip((place, count), (place + 1, count))
        if sizes.most is not None and count >= sizes.most:
            continue
        after = (place + 1, min(count + 1, cap))
        for i, (name, value) in enumerate(member.choices):
            draft.value((place, count), after, name, colon, value, key=i, first=not count)
    return draft.automaton()


class _Draft:
    """Draw an automaton of values between brackets, with commas between them, state by state."""

    def __init__(self, glue: Glue, opening: str, closing: str, start: Hashable = (0, 0)):
        self.sketch = Sketch()
        self.comma = glue.after(",")
        self.close_by = {True: words([closing]), False: glue.before(closing)}
        self.begin = self.sketch.state()
        self.end = self.sketch.state()
        self.start = start
        self.numbers: dict[Hashable, int] = {start: self.sketch.state()}
        self.order: list = [start]
        self.copies: dict[Hashable, int] = {}
        self.sketch.chain(self.begin, glue.after(opening), self.numbers[start])

    def states(self):
        """Yield the states, also those that are added on the way."""
        yield from self.order

    def _number(self, state: Hashable) -> int:
        if state not in self.numbers:
            self.numbers[state] = self.sketch.state()
            self.order.append(state)
        return self.numbers[state]

    def skip(self, state: Hashable, after: Hashable) -> None:
        self.sketch.link(self._number(state), self._number(after))

    def value(self, state: Hashable, after: Hashable, *parts: Automaton, key: Hashable, first: bool) -> None:
        """Add a value; equal keys say that values which lead to the same state are the same."""
        if any(part.empty for part in parts):
            return
        copy = (after, key)
        if copy not in self.copies:
            self.copies[copy] = at = self.sketch.state()
            for part in parts[:-1]:
                between = self.sketch.state()
                self.sketch.chain(at, part, between)
                at = between
            self.sketch.chain(at, parts[-1], self._number(after))
        if first:
            self.sketch.link(self._number(state), self.copies[copy])
        else:
            self.sketch.chain(self._number(state), self.comma, self.copies[copy])

    def close(self, state: Hashable) -> None:
        self.sketch.chain(self._number(state), self.close_by[state == self.start], self.end)

    def automaton(self) -> Automaton:
        return self.sketch.automaton(self.begin, [self.end])
