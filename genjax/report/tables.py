"""Arrange scores in columns: what may stand side by side, what is best, and how a number is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from genjax.errors import ProtocolError
from genjax.evaluation import scores
from genjax.evaluation.scores import LIKELIHOOD_KINDS, TRAININGS, Score, table
from genjax.report.runs import FAILED, SCORED, Comparison, Run

CRITERIA = {
    "coherence": "Coherence",
    "realism": "Realism",
    "diversity": "Diversity and novelty",
    "controllability": "Controllability",
    "alignment": "Prompt alignment",
    "cost": "Compute cost",
    "bias": "Bias and ethics",
}
"""The seven criteria, in order, and their headings."""
ENOUGH = 3
"""Sample sets, or trainings, that an interval needs: over two, it is several times wider than the values."""
FLOOR = "real against real"
"""The row of the floor; compare.json may not have an entry of this name."""


def kind_of(name: str) -> str:
    """Return the kind of a likelihood, the part of its score's name after the slash; else an empty string."""
    _, slash, kind = name.rpartition("/")
    return kind if slash and kind in LIKELIHOOD_KINDS else ""


@dataclasses.dataclass(frozen=True)
class Column:
    """Hold one metric under one protocol (`of`), with the scores of the entries and of FLOOR."""

    of: scores.Column
    cells: dict[str, Score]

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def better(self) -> str:
        return self.of.better

    @property
    def criterion(self) -> str:
        return self.of.criterion

    @property
    def unit(self) -> str:
        return self.of.unit

    @property
    def kind(self) -> str:
        """The kind of a likelihood; an empty string for any other score."""
        return kind_of(self.name)

    @property
    def label(self) -> str:
        """The heading: that of the score, or its name in words."""
        if self.of.label:
            return self.of.label
        name = self.name.removesuffix("/" + self.kind) if self.kind else self.name
        words = name.replace("_", " ").replace("/", ", ")
        label = words[:1].upper() + words[1:]
        return f"{label} ({self.kind})" if self.kind else label

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def meaning(self) -> str:
        """One line that explains the score; the better direction if the score has none."""
        way = {"higher": "higher is better", "lower": "lower is better"}
        return self.of.meaning or way.get(self.better, "no direction")

    @property
    def measured(self) -> dict[str, Score]:
        """The entries' scores, without the floor."""
        return {k: s for k, s in self.cells.items() if k != FLOOR}

    def best(self) -> str | None:
        """Return the entry that is best and whose interval overlaps with no other's, or None."""
        ranked = self.ranked()
        if len(ranked) < 2 or self.timed or self.uncertain:
            return None
        first = ranked[0]
        rest = [self.cells[name] for name in ranked[1:]]
        return first if all(apart(self.cells[first], other) for other in rest) else None

    @property
    def uncertain(self) -> str:
        """Why its intervals are not reliable enough to call an entry better; an empty string if they are."""
        for key, what in ((TRAININGS, "trainings"), ("sets", "sample sets")):
            numbers = [s.detail.get(key) for s in self.measured.values() if not exact(s)]
            found = [n for n in numbers if isinstance(n, int)]
            if found and min(found) < ENOUGH:
                return f"an interval needs at least {ENOUGH} {what} and has {min(found)}"
        return ""

    @property
    def timed(self) -> bool:
        """True for timings without an interval: they repeat only roughly."""
        return self.unit in ("s", "1/s") and all(exact(s) for s in self.measured.values())

    def ranked(self) -> list[str]:
        """Return the measured entries, best first; none if neither direction is better."""
        if self.better not in ("higher", "lower"):
            return []
        sign = -1 if self.better == "higher" else 1
        return sorted(self.measured, key=lambda name: sign * self.cells[name].value)

    def level(self) -> list[str]:
        """Return the best entry and those whose intervals overlap with its own."""
        ranked = self.ranked()
        return [n for n in ranked if n == ranked[0] or not apart(self.cells[ranked[0]], self.cells[n])]


def interval(score: Score) -> tuple[float, float]:
    """Return (low, high); the value itself if no interval is given."""
    return (
        score.value if score.low is None else score.low,
        score.value if score.high is None else score.high,
    )


def exact(score: Score) -> bool:
    """Return True for a count, or another score without an interval."""
    low, high = interval(score)
    return low == high


def apart(a: Score, b: Score) -> bool:
    """Return True if the two intervals have no point in common."""
    a_low, a_high = interval(a)
    b_low, b_high = interval(b)
    return a_high < b_low or b_high < a_low


def columns(comparison: Comparison) -> list[Column]:
    """Return the comparison's columns in order of criterion, then of first appearance.

    Columns of the floor alone are left out.

    Raises:
      ProtocolError: two rows of a column were measured differently; names both and the difference.
    """
    rows = {run.name: run.scores or () for run in comparison.entries}
    if FLOOR in rows:
        raise ProtocolError(f"an entry has the name of the floor's row, {FLOOR!r}", "rename the entry")
    found = [Column(c, dict(c.scores)) for c in table({**rows, FLOOR: comparison.floor or ()})]
    order = list(CRITERIA)
    return sorted((c for c in found if c.measured), key=lambda c: order.index(c.criterion))


def reason(entry: Run | None, column: Column) -> str:
    """Return why a row has no value in a column."""
    if entry is None:
        return "no floor: real data have no such score"
    if entry.status != SCORED:
        return FAILED if entry.status == FAILED else f"{entry.status}: not scored yet"
    if column.kind:
        other = [kind_of(s.name) for s in entry.scores or () if kind_of(s.name)]
        return f"its likelihood is {other[0]}" if other else "has no likelihood"
    if column.criterion == "controllability":
        return "takes no condition"
    return "not measured"


def number(value: float, low: float | None = None, high: float | None = None) -> str:
    """Write a value with the digits that its interval supports, or three without one: 8.10, 1.23 M."""
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    scale, suffix = _scale(value)
    text = _round(value / scale, _decimals(value / scale, half / scale))
    if half == 0 and "." in text:
        text = text.rstrip("0").rstrip(".")
    if suffix == "" and abs(value) >= 1000 and "." not in text:
        text = f"{int(text):,}".replace(",", "\u202f")
    return (text + suffix).replace("-", "−")


def spread(score: Score) -> str:
    """Write an interval: ± if it is symmetric, else its ends; an empty string for an exact value."""
    if exact(score):
        return ""
    low, high = interval(score)
    value = score.value
    half = (high - low) / 2
    scale, suffix = _scale(value)
    decimals = _decimals(value / scale, half / scale)
    low, high, value, half = (v / scale for v in (low, high, value, half))
    if low <= value <= high and abs((high - value) - (value - low)) <= 0.3 * half:
        return f"±\u00a0{_round(half, decimals)}{suffix}"
    return f"{_round(low, decimals)} to {_round(high, decimals)}{suffix}".replace("-", "−")


def _scale(value: float) -> tuple[float, str]:
    """Return (divisor, suffix): an SI prefix above ten thousand, a power of ten below a thousandth."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return 1.0, ""
    power = math.floor(math.log10(abs(value)))
    if 1e4 <= abs(value) < 1e21:
        return 1000.0 ** (power // 3), "\u202f" + " kMGTPE"[power // 3]
    return 10.0**power, "\u202f×\u202f10" + str(power).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _decimals(value: float, half: float) -> int:
    """Return the decimals of a value: two digits of an interval that begins with 1 or 2, else one."""
    size = math.floor(math.log10(abs(value))) if value else 0
    if half <= 0:
        # Whole numbers below ten thousand are counts, which are written in full.
        return 0 if value == round(value) and abs(value) < 1e4 else max(0, 2 - size)
    first = math.floor(math.log10(half))
    return min(8, -first + (half / 10.0**first < 2.95))


def _round(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def bands(found: Sequence[Column], most: int = 9) -> list[list[Column]]:
    """Divide columns among tables of at most `most`, as evenly as possible, without splitting a criterion."""
    few = max(1, -(-len(found) // most))
    for widest in range(-(-len(found) // few), most + 1):
        cut = _cut(found, widest)
        if len(cut) <= few:
            return cut
    return _cut(found, most)


def _cut(found: Sequence[Column], widest: int) -> list[list[Column]]:
    groups: dict[str, list[Column]] = {}
    for column in found:
        groups.setdefault(column.criterion, []).append(column)
    out: list[list[Column]] = []
    for group in groups.values():
        for piece in (group[i : i + widest] for i in range(0, len(group), widest)):
            if out and len(out[-1]) + len(piece) <= widest:
                out[-1].extend(piece)
            else:
                out.append(list(piece))
    return out


def unmeasured(found: Iterable[Column]) -> list[str]:
    """Return the headings of those of the seven criteria that have no column."""
    present = {column.criterion for column in found}
    return [label for key, label in CRITERIA.items() if key not in present]


def find(found: Iterable[Column], *words: str) -> Column | None:
    """Return the first column whose name contains all the words."""
    return next((c for c in found if all(w in c.name.lower() for w in words)), None)


def coherence(found: Iterable[Column]) -> Column | None:
    """Return the exact likelihood of sequences, in which families can be compared while they learn."""
    return next((c for c in found if c.criterion == "coherence" and c.kind == "exact"), None)


def quality(found: Sequence[Column]) -> Column | None:
    """Return the column that stands for quality: Fréchet distance, realism, or the exact likelihood."""
    return (
        find(found, "frechet")
        or find(found, "fid")
        or next((c for c in found if c.criterion == "realism" and c.better != "none"), None)
        or coherence(found)
    )
