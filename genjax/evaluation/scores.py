"""Define scores that carry their protocol, and tables that never mix protocols. Standard library only.

A score has two dicts of JSON scalars:

- `protocol`: everything that changes what the number *means*: the dataset's fingerprint, the splits, the
  samples in a set, the features' digest, the metric's settings, the seed, the kind of a likelihood, the
  device of a timing. Every row of a column must agree on all of it.
- `detail`: what may differ between the rows of one column, because it belongs to the model that is scored
  and not to the measurement: a sampler's steps, the temperature, the average whose weights were used, the
  number of sets behind the interval and its method. It is kept and shown, never compared.

The test for a new field: if a row with another value could still be fairly called better or worse, it is
detail. More sets of the same size only narrow the interval, so `sets` is detail; the size of a set changes
the expectation of a Fréchet distance, so `samples` is protocol.

A likelihood of another kind is another column and not a conflict, so its kind is in the score's name as well.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from genjax import files
from genjax.errors import DataError, ProtocolError

Better = Literal["lower", "higher", "none"]
Criterion = Literal["coherence", "realism", "diversity", "controllability", "alignment", "cost", "bias"]
Scalar = str | int | float | bool | None
TRAININGS = "trainings"
"""Key of a detail: the number of trainings that an interval is over."""
LIKELIHOOD_KINDS = ("exact", "bound", "density", "conditional", "codes")
"""Kinds of likelihood (see genjax.core.Model): the last part of its score's name."""


class Definition(NamedTuple):
    """Define a score, as a metric declares it before it is measured.

    Attributes:
      label: the column's heading, e.g. "Fréchet distance".
      better: the better direction; "none" if neither is better (the distance to the floor counts).
      criterion: which of the seven criteria it belongs to.
      meaning: one line for readers of a table.
      unit: e.g. "nats", "FLOP"; empty for a ratio or a distance in feature space.
    """

    label: str
    better: Better
    criterion: Criterion
    meaning: str
    unit: str = ""

    def score(
        self,
        name: str,
        value: float,
        protocol: Mapping[str, Scalar],
        detail: Mapping[str, Scalar],
        low: float | None = None,
        high: float | None = None,
    ) -> Score:
        """Return a score of this definition."""
        return Score(
            name,
            value,
            low,
            high,
            better=self.better,
            criterion=self.criterion,
            unit=self.unit,
            protocol=protocol,
            detail=detail,
            label=self.label,
            meaning=self.meaning,
        )


@dataclasses.dataclass(frozen=True)
class Score:
    """Hold one measured number with all that is needed to interpret it.

    Attributes:
      name: the column, e.g. "frechet" or "bits_per_dim/exact".
      value: finite.
      low, high: a 95% interval; None if there is no sampling error (a parameter count) or it is unknown.
      better, criterion, unit: see `Definition`.
      protocol: flat, JSON scalars; compared across the rows of a column.
      detail: flat, JSON scalars; shown, not compared.
      label: the column's heading, complete, e.g. "Samples a second (batch 64)"; may be empty. Not compared.
      meaning: one line that explains the score; may be empty. Not compared.

    Raises:
      ValueError: a value or bound that is NaN or infinite, an unknown direction or criterion, bounds in the
        wrong order, or a protocol that is not flat.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    better: Better = "none"
    criterion: Criterion = "realism"
    unit: str = ""
    protocol: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    detail: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    label: str = ""
    meaning: str = ""

    def __post_init__(self):
        for field in ("value", "low", "high"):
            x = getattr(self, field)
            if x is None and field != "value":
                continue
            number = math.nan if x is None or isinstance(x, bool) else float(x)
            if not math.isfinite(number):
                raise ValueError(f"score {self.name!r}: {field} is {x!r}, not a finite number")
            object.__setattr__(self, field, number)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"score {self.name!r}: interval [{self.low}, {self.high}]: low is above high")
        for field, choices in (("better", get_args(Better)), ("criterion", get_args(Criterion))):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"score {self.name!r}: {field} {getattr(self, field)!r} is not one of {choices}"
                )
        for field in ("protocol", "detail"):
            object.__setattr__(self, field, _flat(f"score {self.name!r}: {field}", getattr(self, field)))

    def to_json(self) -> dict[str, Any]:
        """Return the score as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """Return the score that `to_json` wrote; fields of later versions are ignored.

        Raises:
          ValueError: a missing name or value, or one that `Score` refuses.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{k: v for k, v in values.items() if k in known})
        except TypeError as error:
            raise ValueError(f"not a score: {error}") from error


def _flat(where: str, values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return `values` with every entry a finite JSON scalar (numpy scalars are unwrapped)."""
    out = {}
    for key, value in values.items():
        value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"{where}[{key!r}] is a {type(value).__name__}; it must be flat JSON")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}[{key!r}] is {value}, not a finite number")
        out[str(key)] = value
    return out


def write(path: str | os.PathLike[str], scores: Iterable[Score]) -> None:
    """Write scores.json, a list, atomically.

    Raises:
      ValueError: a score holds a NaN or an infinity; the old file is kept.
      OSError: the folder cannot be written to.
    """
    text = json.dumps([s.to_json() for s in scores], indent=1, allow_nan=False, ensure_ascii=False)
    files.write_text(path, text + "\n")


def read(path: str | os.PathLike[str]) -> list[Score]:
    """Read the scores of a scores.json.

    Raises:
      DataError: the file is not a list of scores.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(values, list):
            raise ValueError("not a list")
        return [Score.from_json(v) for v in values]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not a list of scores: {error}", "evaluate the run again") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


@dataclasses.dataclass(frozen=True)
class Column:
    """Hold one score of several rows under one protocol.

    Attributes:
      name, better, criterion, unit, protocol: shared by every row of the column.
      scores: {row: its score}; rows without one are absent.
    """

    name: str
    better: Better
    criterion: Criterion
    unit: str
    protocol: Mapping[str, Scalar]
    scores: Mapping[str, Score]

    @property
    def label(self) -> str:
        """The heading, from the first row that has one; may be empty."""
        return next((s.label for s in self.scores.values() if s.label), "")

    @property
    def meaning(self) -> str:
        """The explanation, from the first row that has one; may be empty."""
        return next((s.meaning for s in self.scores.values() if s.meaning), "")

    def best(self, exclude: Iterable[str] = ()) -> str | None:
        """Return the row with the best value; None without a direction or rows. Exclude the floor row."""
        rows = {row: s.value for row, s in self.scores.items() if row not in set(exclude)}
        if self.better == "none" or not rows:
            return None
        return (min if self.better == "lower" else max)(rows, key=rows.__getitem__)


def table(rows: Mapping[str, Sequence[Score]]) -> list[Column]:
    """Arrange scores side by side: a column for each name, in the order of first appearance.

    Args:
      rows: {row name (a model, the real-data floor): its scores}.

    Raises:
      ProtocolError: two rows of a column differ in protocol, unit, direction or criterion; it names the
        column, the rows, the first differing key and both values. Or one row has two scores of one name.
    """
    columns: dict[str, dict[str, Score]] = {}
    for row, scores in rows.items():
        for score in scores:
            column = columns.setdefault(score.name, {})
            if row in column:
                raise ProtocolError(f"row {row!r} has two scores named {score.name!r}", "keep one of them")
            for other, first in column.items():
                _same(score.name, other, first, row, score)
                break  # the rest already agree with the first
            column[row] = score
    return [_column(name, scores) for name, scores in columns.items()]


def _column(name: str, scores: dict[str, Score]) -> Column:
    first = next(iter(scores.values()))
    return Column(name, first.better, first.criterion, first.unit, first.protocol, scores)


_ABSENT = object()


def _same(name: str, row_a: str, a: Score, row_b: str, b: Score) -> None:
    """Raise ProtocolError if two scores may not share a column."""
    of_a = {"unit": a.unit, "better": a.better, "criterion": a.criterion, **a.protocol}
    of_b = {"unit": b.unit, "better": b.better, "criterion": b.criterion, **b.protocol}
    for key in dict.fromkeys([*of_a, *of_b]):
        x = of_a.get(key, _ABSENT)
        y = of_b.get(key, _ABSENT)
        if x is _ABSENT or y is _ABSENT or x != y:
            show = [("no such key" if v is _ABSENT else repr(v)) for v in (x, y)]
            raise ProtocolError(
                f"column {name!r}: protocols differ in {key!r}: "
                f"{row_a!r} has {show[0]}, {row_b!r} has {show[1]}",
                "evaluate both under the same protocol, or put them in separate tables",
            )
