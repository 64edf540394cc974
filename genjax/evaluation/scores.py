"""Scores that carry their protocol, and tables that refuse to mix protocols. Standard library only.

What goes where:

- `protocol`: everything that changes what the number *means*, as a flat dict of JSON scalars: the dataset's
  fingerprint, the splits, the samples in a set, the features' digest, the metric's settings, the seed, the
  kind of a likelihood, the device of a timing. Every row of a column must agree on all of it.
- `detail`: what legitimately differs between the rows of one column, because it belongs to the thing that is
  scored and not to the ruler: a sampler's steps, the temperature, the average whose weights were used, how
  many sets the interval was drawn from and by which method. It is kept and shown, never compared.

The test for a new field: if a row with another value could still be fairly called better or worse, it is
detail. More sets of the same size only narrow the interval, so `sets` is detail; the size of a set moves the
expectation of a Fréchet distance, so `samples` is protocol.

A likelihood of another kind is another column and not a conflict, so its kind is in the score's name as well.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from genjax.errors import DataError, ProtocolError

Better = Literal["lower", "higher", "none"]
Criterion = Literal["coherence", "realism", "diversity", "controllability", "alignment", "cost", "bias"]
Scalar = str | int | float | bool | None


@dataclasses.dataclass(frozen=True)
class Score:
    """One number of one thing, and all that is needed to know what it means.

    Attributes:
      name: the column, e.g. "frechet" or "bits_per_dim/exact".
      value: finite.
      low, high: a 95% interval; None where it has no sampling error (a parameter count) or none is known.
      better: which way is better; "none" where neither is (the distance to the floor row counts).
      criterion: which of the seven criteria it speaks to.
      unit: e.g. "nats", "FLOP"; empty for a ratio or a distance in feature space.
      protocol: flat, JSON scalars; compared across the rows of a column.
      detail: flat, JSON scalars; shown, not compared.

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
            raise ValueError(
                f"score {self.name!r}: interval [{self.low}, {self.high}] is the wrong way round"
            )
        for field, choices in (("better", get_args(Better)), ("criterion", get_args(Criterion))):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"score {self.name!r}: {field} {getattr(self, field)!r} is not one of {choices}"
                )
        for field in ("protocol", "detail"):
            object.__setattr__(self, field, _flat(f"score {self.name!r}: {field}", getattr(self, field)))

    def to_json(self) -> dict[str, Any]:
        """The score as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """The score that `to_json` wrote; fields of later versions are ignored.

        Raises:
          ValueError: a missing name or value, or one that `Score` refuses.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{k: v for k, v in values.items() if k in known})
        except TypeError as error:
            raise ValueError(f"not a score: {error}") from error


def _flat(where: str, values: Mapping[str, Any]) -> dict[str, Scalar]:
    """`values` with every entry a finite JSON scalar (numpy scalars are unwrapped)."""
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
    """Writes scores.json, a list, atomically: a reader sees the old file or the new one, never half.

    Raises:
      OSError: the folder cannot be written to.
    """
    path = Path(path)
    text = json.dumps([s.to_json() for s in scores], indent=1, allow_nan=False, ensure_ascii=False)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text + "\n")
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's 0600 would hide results from one's colleagues
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> list[Score]:
    """The scores of a scores.json.

    Raises:
      DataError: the file is not a list of scores.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(values, list):
            raise ValueError("not a list")
        return [Score.from_json(v) for v in values]
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a list of scores: {error}", "evaluate the run again") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


@dataclasses.dataclass(frozen=True)
class Column:
    """One score of several rows under one protocol.

    Attributes:
      name, better, criterion, unit, protocol: what every row of the column shares.
      scores: {row: its score}; rows that have none are absent.
    """

    name: str
    better: Better
    criterion: Criterion
    unit: str
    protocol: Mapping[str, Scalar]
    scores: Mapping[str, Score]

    def best(self, exclude: Iterable[str] = ()) -> str | None:
        """The row with the best value (the floor row is for the caller to exclude); None if there is none."""
        rows = {row: s.value for row, s in self.scores.items() if row not in set(exclude)}
        if self.better == "none" or not rows:
            return None
        return (min if self.better == "lower" else max)(rows, key=rows.__getitem__)


def table(rows: Mapping[str, Sequence[Score]]) -> list[Column]:
    """Scores side by side: a column for each name, in the order of first appearance.

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
    """Raises ProtocolError where two scores may not share a column."""
    of_a = {"unit": a.unit, "better": a.better, "criterion": a.criterion, **a.protocol}
    of_b = {"unit": b.unit, "better": b.better, "criterion": b.criterion, **b.protocol}
    for key in dict.fromkeys([*of_a, *of_b]):
        x, y = of_a.get(key, _ABSENT), of_b.get(key, _ABSENT)
        if x is _ABSENT or y is _ABSENT or x != y:
            show = [("no such key" if v is _ABSENT else repr(v)) for v in (x, y)]
            raise ProtocolError(
                f"column {name!r}: protocols differ in {key!r}: "
                f"{row_a!r} has {show[0]}, {row_b!r} has {show[1]}",
                "evaluate both under the same protocol, or put them in separate tables",
            )
