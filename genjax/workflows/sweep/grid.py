"""Read the values of a sweep from the command line and combine them into settings.

    --grid optimizer.learning_rate=1e-3,3e-3        these values, combined with those of other fields
    --range optimizer.learning_rate=log:1e-4,1e-2   with --random=N: N draws, uniform in the logarithm
    --range model.width=uniform:16,64               with --random=N: N draws, uniform

A value of --grid is written as in an override; commas inside brackets and quotes do not separate values. The
draws of --range are combined with every point of --grid. Draw i of a field depends on i, the field and its
range alone, so that a larger N keeps the earlier draws.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from genjax.config import coerce
from genjax.errors import ConfigError
from genjax.settings import value

RESERVED = {
    "name": "every run of a sweep has its own directory",
    "seed": "give --seeds=N",
    "data.seed": "give --seeds=N",
    "model.name": "compare models with `genjax compare`",
}
"""{field that cannot be swept: what to do instead}."""
MOST = 10_000
"""Draws of a sweep."""
LONGEST = 80
"""Characters of a setting's label in the name of its directories."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Hold a range from which the values of a field are drawn.

    Attributes:
      scale: "uniform", or "log" for uniform in the logarithm.
      low, high: its ends.
      whole: both ends are written as whole numbers. The draws are then whole if the config's value is.
    """

    scale: Literal["uniform", "log"]
    low: float
    high: float
    whole: bool = False

    def draw(self, field: str, index: int, whole: bool) -> float | int:
        """Return draw `index` of a field: four digits, or a whole number if `whole`."""
        # Random(text) hashes with sha512: the same on every machine.
        u = random.Random(f"{field} {self.scale}:{self.low},{self.high} {index}").random()
        if self.scale == "log":
            x = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
            return round(x) if whole else self._rounded(x)
        if whole:  # each whole number is equally likely
            return math.floor(self.low + u * (self.high - self.low + 1))
        return self._rounded(self.low + u * (self.high - self.low))

    def _rounded(self, x: float) -> float:
        """Return a number to four digits, within the range."""
        return min(max(float(f"{x:.4g}"), self.low), self.high)


def lists(given: Sequence[str]) -> dict[str, list[Any]]:
    """Return {field: values} of the --grid options.

    Raises:
      ConfigError: an option of another form, a field that cannot be swept, or a value that occurs twice.
    """
    found: dict[str, list[Any]] = {}
    for option in given:
        field, text = _field("--grid", option, found, "optimizer.learning_rate=1e-3,3e-3")
        if re.match(r"(uniform|log):", text):
            raise ConfigError(
                f"--grid {option!r} is a range, not a list of values", f"give --range {option} --random=N"
            )
        items = _items(text)
        if not all(items):
            raise ConfigError(f"--grid {option!r} has an empty value", "separate the values by single commas")
        values = [value(item) for item in items]
        twice = [v for i, v in enumerate(values) if v in values[:i]]
        if twice:
            raise ConfigError(f"--grid {option!r} has the value {twice[0]!r} twice", "leave one of them out")
        found[field] = values
    return found


def ranges(given: Sequence[str]) -> dict[str, Range]:
    """Return {field: Range} of the --range options.

    Raises:
      ConfigError: an option of another form, or ends in the wrong order or outside the logarithm.
    """
    found: dict[str, Range] = {}
    example = "optimizer.learning_rate=log:1e-4,1e-2"
    for option in given:
        field, text = _field("--range", option, found, example)
        scale, _, rest = text.partition(":")
        ends = [value(item) for item in rest.split(",")]
        if scale not in ("uniform", "log") or len(ends) != 2:
            raise ConfigError(
                f"--range {option!r} is not FIELD=uniform:LOW,HIGH or FIELD=log:LOW,HIGH", f"e.g. {example}"
            )
        low, high = (coerce(float, end, f"--range {field}") for end in ends)
        if low >= high or (scale == "log" and low <= 0):
            need = "0 < LOW < HIGH" if scale == "log" else "LOW < HIGH"
            raise ConfigError(f"--range {option!r}: the ends must satisfy {need}", f"e.g. {example}")
        whole = all(isinstance(e, int) for e in ends)
        found[field] = Range("log" if scale == "log" else "uniform", low, high, whole)
    return found


def _field(option: str, text: str, found: Mapping[str, Any], example: str) -> tuple[str, str]:
    """Divide "FIELD=VALUES".

    Raises:
      ConfigError: of another form, a field that occurs twice or that cannot be swept.
    """
    field, equals, values = text.partition("=")
    field = field.strip().removeprefix("--").removeprefix("config.")
    if not equals or not values or not re.fullmatch(r"\w+(\.\w+)*", field):
        raise ConfigError(f"{option} {text!r} is not of the form FIELD=VALUES", f"e.g. {option} {example}")
    if field in found:
        raise ConfigError(f"{option} names {field!r} twice", "give all of its values at once")
    if field in RESERVED or field.split(".")[0] == "evaluate":
        hint = RESERVED.get(field, "all runs are scored under one protocol: set it with --config.evaluate...")
        raise ConfigError(f"{option}: {field!r} cannot be swept", hint)
    return field, values


def _items(text: str) -> list[str]:
    """Split a text at its commas that are not inside brackets or quotes."""
    out = [""]
    depth = 0
    quote = ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "([{") - (c in ")]}")
        if c == "," and not quote and depth <= 0:
            out.append("")
        else:
            out[-1] += c
    return [item.strip() for item in out]


def combine(
    values: Mapping[str, Sequence[Any]],
    drawn: Mapping[str, Range],
    draws: int,
    whole: Mapping[str, bool],
) -> list[dict[str, Any]]:
    """Return the settings, {field: value} each: every point of the grid with every draw.

    Args:
      draws: of the ranges; read only if there are ranges.
      whole: {field with a range: its values are integers}.

    Raises:
      ConfigError: a field has both values and a range, ranges without a number of draws or the reverse, or
        nothing to vary.
    """
    both = sorted(set(values) & set(drawn))
    if both:
        raise ConfigError(f"{both[0]!r} has values and a range", "give it in --grid or in --range")
    if not values and not drawn:
        raise ConfigError("nothing to vary", "give --grid FIELD=A,B or --range FIELD=log:LOW,HIGH --random=N")
    if drawn and not 1 <= draws <= MOST:
        raise ConfigError(
            f"--range needs --random=N with N from 1 to {MOST}, not {draws}", "e.g. --random=10"
        )
    if draws and not drawn:
        raise ConfigError(f"--random={draws} draws from ranges, and none is given", "add --range FIELD=...")
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    found = [
        {**point, **{f: r.draw(f, i, whole.get(f, False)) for f, r in drawn.items()}}
        for point in points
        for i in range(max(draws, 1))
    ]
    # Whole numbers of a narrow range repeat: each setting is run once.
    return [setting for i, setting in enumerate(found) if setting not in found[:i]]


def label(setting: Mapping[str, Any]) -> str:
    """Return a setting in words: "learning_rate=0.001, width=32".

    A field is named by its last part, or in full if two fields share that.
    """
    return ", ".join(
        f"{name}={shown(v)}" for name, v in zip(names(list(setting)), setting.values(), strict=True)
    )


def names(fields: Sequence[str]) -> list[str]:
    """Return the short name of each field: its last part, or the whole if two fields share that."""
    last = [field.rpartition(".")[2] for field in fields]
    return [field if last.count(short) > 1 else short for field, short in zip(fields, last, strict=True)]


def shown(x: Any) -> str:
    """Return a value as it is written in labels."""
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def slug(setting: Mapping[str, Any]) -> str:
    """Return the name of a setting's directories: its label, with a digest where that is not exact."""
    text = label(setting).replace(", ", ",")
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", text)[:LONGEST]
    exact = safe == text and all(value(shown(v)) == v for v in setting.values())
    digest = hashlib.sha256(repr(sorted(setting.items())).encode()).hexdigest()[:8]
    return safe if exact else f"{safe}-{digest}"
