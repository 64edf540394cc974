"""Sets of texts, of some of which it is not known whether they belong to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from genjax.languages.automata import NOTHING, Automaton
from genjax.languages.operations import both, union, without


@dataclasses.dataclass(frozen=True)
class Set:
    """Hold a set of texts between two bounds.

    Attributes:
      sure: texts that the schema accepts.
      maybe: all that it accepts, and perhaps more. The same object if the bounds are equal.
    """

    sure: Automaton
    maybe: Automaton

    @classmethod
    def of(cls, texts: Automaton) -> Set:
        """Return a set that is known exactly."""
        return cls(texts, texts)

    @property
    def known(self) -> bool:
        return self.sure is self.maybe

    @classmethod
    def by(cls, make: Callable[[Callable[[Set], Automaton]], Automaton], parts: Iterable[Set]) -> Set:
        """Return what `make` makes of the lower, and of the upper bounds of the parts."""
        sure = make(lambda part: part.sure)
        return cls.of(sure) if all(p.known for p in parts) else cls(sure, make(lambda part: part.maybe))

    def __and__(self, other: Set) -> Set:
        return Set.by(lambda bound: both(bound(self), bound(other)), (self, other))

    @classmethod
    def any(cls, sets: Sequence[Set]) -> Set:
        """Return the texts of at least one of the sets."""
        return cls.by(lambda bound: union(map(bound, sets)), sets)

    def __sub__(self, other: Set) -> Set:
        sure = without(self.sure, other.maybe)
        known = self.known and other.known
        return Set.of(sure) if known else Set(sure, without(self.maybe, other.sure))


EMPTY = Set.of(NOTHING)
