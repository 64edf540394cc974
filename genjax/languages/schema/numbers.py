"""Numbers of JSON. Each has one form: no exponent, no -0, no zeros before the first or after the last digit.

With 15 digits, each number is another double, and doubles are ordered as the numbers are: what a validator
compares as doubles is what the text says (IEEE 754: 15 decimal digits survive).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from genjax.languages.automata import NOTHING, Automaton, explore, words
from genjax.languages.operations import both, joined, union
from genjax.languages.regexes import regex

DIGITS = 15
"""Digits of a double that are always kept."""
FRACTION = 4
"""Digits after the point, unless the schema has numbers with more."""
MODULUS = 1000
"""The greatest divisor whose multiples are an automaton; of others, some multiples are listed."""
LISTED = 1000
"""The most multiples that are listed."""
BYTES = {digit: ord(str(digit)) for digit in range(10)}


def exact(value: int | float) -> Decimal:
    """Return the number that a JSON number means: if it is not whole, the shortest of the same double."""
    return Decimal(int(value)) if value == int(value) else Decimal(repr(value))


def written(value: int | float) -> str:
    """Return the form of a number."""
    number = exact(value)
    return f"{number:f}" if number else "0"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Set how long numbers may be.

    Attributes:
      whole: digits of integers.
      before, after: digits before and after the point of other numbers.
    """

    whole: int
    before: int
    after: int

    @classmethod
    def of(cls, document: Any) -> Sizes:
        """Return sizes with which every number of a schema can be written."""
        found = [exact(x) for x in _numbers(document)]
        broken = [x for x in found if x != int(x)]
        after = max([FRACTION, *(-int(x.as_tuple().exponent) for x in broken)])
        return cls(
            max([DIGITS, *(len(str(abs(int(x)))) for x in found)]),
            max([1, DIGITS - after, *(len(str(abs(int(x)))) for x in broken)]),
            after,
        )


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@functools.lru_cache(maxsize=16)
def integers(sizes: Sizes) -> Automaton:
    """Return the integers."""
    return regex(f"0|-?[1-9][0-9]{{0,{sizes.whole - 1}}}")


@functools.lru_cache(maxsize=16)
def numbers(sizes: Sizes) -> Automaton:
    """Return all numbers."""
    whole = f"(0|[1-9][0-9]{{0,{sizes.before - 1}}})"
    broken = regex(f"-?{whole}\\.[0-9]{{0,{sizes.after - 1}}}[1-9]")
    return union([integers(sizes), broken])


@functools.lru_cache(maxsize=64)
def at_most(bound: Decimal, strict: bool) -> Automaton:
    """Return a language with which numbers up to `bound` can be intersected; without it if `strict`."""
    minus = words(["-"])
    if bound < 0:
        return joined(minus, _compared(-bound, ">" if strict else ">="))
    return union([joined(minus, _compared(Decimal(0), ">=")), _compared(bound, "<" if strict else "<=")])


@functools.lru_cache(maxsize=64)
def at_least(bound: Decimal, strict: bool) -> Automaton:
    """Return a language with which numbers from `bound` on can be intersected; without it if `strict`."""
    if bound <= 0:
        below = joined(words(["-"]), _compared(-bound, "<" if strict else "<="))
        return union([below, _compared(Decimal(0), ">" if strict and not bound else ">=")])
    return _compared(bound, ">" if strict else ">=")


def _compared(bound: Decimal, relation: str) -> Automaton:
    """Return the numbers without sign that compare so with a bound that is not negative.

    A state is the number of digits so far, at most one more than the bound has; how they compare with the
    bound's; and the number of digits after the point, None before it.
    """
    whole, _, broken = f"{bound:f}".partition(".")
    broken = broken.rstrip("0")

    def step(state: tuple[int, int, int | None]) -> dict[int, tuple[int, int, int | None]]:
        count, order, after = state
        found: dict[int, tuple[int, int, int | None]] = {}
        if after is None and count:
            found[ord(".")] = (count, _order(state, len(whole)), 0)
        for digit, byte in BYTES.items():
            if after is None:
                expected = int(whole[count]) if count < len(whole) else digit
                new = order or (digit > expected) - (digit < expected)
                found[byte] = (min(count + 1, len(whole) + 1), new, None)
            else:
                expected = int(broken[after]) if after < len(broken) else 0
                new = order or (digit > expected) - (digit < expected)
                found[byte] = (count, new, min(after + 1, len(broken)))
        return found

    def accepts(state: tuple[int, int, int | None]) -> bool:
        count, order, after = state
        if not count:
            return False
        if after is None:
            order = _order(state, len(whole))
        order = order or (-1 if (after or 0) < len(broken) else 0)
        return {-1: "<" in relation, 0: "=" in relation, 1: ">" in relation}[order]

    return explore((0, 0, None), step, accepts)


def _order(state: tuple[int, int, int | None], size: int) -> int:
    """Return how the digits before the point compare with those of a bound of `size` digits."""
    count, order, _ = state
    return order if count == size else (count > size) - (count < size)


def multiples(divisor: int) -> Automaton:
    """Return a language with which integers can be intersected: multiples of a divisor up to MODULUS."""

    def step(state: tuple[bool, int]) -> dict[int, tuple[bool, int]]:
        begun, rest = state
        found = {byte: (True, (rest * 10 + digit) % divisor) for digit, byte in BYTES.items()}
        return found if begun else found | {ord("-"): (True, 0)}

    return explore((False, 0), step, lambda state: state[0] and not state[1])


def some_multiples(divisor: int | float, low: Decimal | None, high: Decimal | None) -> Automaton:
    """Return some multiples of a divisor within bounds: those that are multiples as doubles, too.

    0.29 is no multiple of 0.01 for a validator that divides doubles.
    """
    step = exact(divisor)
    first = -LISTED // 2 if low is None else int((low / step).to_integral_value("ROUND_CEILING"))
    last = first + LISTED if high is None else int((high / step).to_integral_value("ROUND_FLOOR"))
    if low is None and high is not None:
        first = last - LISTED
    found = []
    for factor in range(first, min(last, first + LISTED) + 1):
        value = step * factor
        quotient = float(value) / float(divisor)
        if quotient == factor:
            found.append(f"{value.normalize():f}" if value else "0")
    return words(found) if found else NOTHING


def number(
    sizes: Sizes,
    whole: bool,
    low: tuple[Decimal, bool] | None,
    high: tuple[Decimal, bool] | None,
) -> Automaton:
    """Return the numbers within bounds.

    Args:
      whole: integers only.
      low, high: (bound, True if the number must differ from it).
    """
    found = integers(sizes) if whole else numbers(sizes)
    if low is not None:
        found = both(found, at_least(*low))
    return found if high is None else both(found, at_most(*high))
