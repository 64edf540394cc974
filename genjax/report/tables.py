"""Scores as columns: what may stand side by side, what is best, and how a number is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from genjax.errors import ProtocolError
from genjax.evaluation import scores
from genjax.evaluation.scores import Score, table
from genjax.report.runs import SCORED, Comparison, Run

CRITERIA = {
    "coherence": "Coherence",
    "realism": "Realism",
    "diversity": "Diversity and novelty",
    "controllability": "Controllability",
    "alignment": "Prompt alignment",
    "cost": "Compute cost",
    "bias": "Bias and ethics",
}
"""The seven criteria, in order, and how they are written."""

KINDS = ("exact", "bound", "density", "conditional")
LABELS = {
    "frechet": "Fréchet distance",
    "kid": "KID",
    "bits_per_dim": "Bits per dimension",
    "nats_per_token": "Nats per token",
    "nats_per_frame": "Nats per frame",
    "pairwise_distance": "Distance between samples",
    "nearest_train": "Distance to training data",
    "effective_classes": "Classes in use",
    "train_flops": "FLOPs to train",
    "sample_flops": "FLOPs to sample",
    "train_seconds": "Seconds to train",
    "samples_per_second": "Samples a second",
    "sample_memory": "Memory to sample",
}
MEANINGS = {
    "frechet": "squared Fréchet distance between Gaussians fitted to the features",
    "kid": "kernel distance between the features, unbiased",
    "precision": "samples that lie among the real data",
    "recall": "real data that lie among the samples",
    "density": "how many real neighbourhoods a sample lies in",
    "coverage": "real neighbourhoods that hold a sample",
    "memorisation": "chance that a sample is nearer to the training data than a fresh real row",
    "authenticity": "samples farther from their nearest training row than that row is from its own nearest",
    "conditional_accuracy": "samples that the classifier sees as the class that was asked for",
}


def kind_of(name: str) -> str:
    """exact, bound or density where the score's name ends so after a slash, else an empty string."""
    _, slash, kind = name.rpartition("/")
    return kind if slash and kind in KINDS else ""


FLOOR = "real against real"
"""The row of the floor; compare.json may not have an entry of this name."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One metric under one protocol (`of`), a score for each row that has it (entry names, and FLOOR)."""

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
        """exact, bound or density where it is a likelihood, else an empty string."""
        return kind_of(self.name)

    @property
    def label(self) -> str:
        name = self.name.removesuffix("/" + self.kind)
        stem, _, batch = name.rpartition("_")
        if stem in LABELS and batch.isdigit():
            return f"{LABELS[stem]} (batch {batch})"
        words = name.replace("_", " ").replace("/", ", ")
        label = LABELS.get(name) or words[:1].upper() + words[1:]
        return f"{label} ({self.kind})" if self.kind else label

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")

    @property
    def measured(self) -> dict[str, Score]:
        """The entries' scores, without the floor."""
        return {k: s for k, s in self.cells.items() if k != FLOOR}

    def best(self) -> str | None:
        """The entry that is best and whose interval overlaps no other's; None where none is."""
        ranked = self.ranked()
        if len(ranked) < 2:
            return None
        if self.timed:
            return None
        first = ranked[0]
        rest = [self.cells[name] for name in ranked[1:]]
        return first if all(apart(self.cells[first], other) for other in rest) else None

    @property
    def timed(self) -> bool:
        """Whether these are timings without an interval: they repeat only roughly."""
        return self.unit in ("s", "1/s") and all(exact(s) for s in self.measured.values())

    def ranked(self) -> list[str]:
        """The measured entries, best first; none where neither direction is better."""
        if self.better not in ("higher", "lower"):
            return []
        sign = -1 if self.better == "higher" else 1
        return sorted(self.measured, key=lambda name: sign * self.cells[name].value)

    def level(self) -> list[str]:
        """The best entry and those whose intervals overlap with its: what cannot be told apart."""
        ranked = self.ranked()
        return [n for n in ranked if n == ranked[0] or not apart(self.cells[ranked[0]], self.cells[n])]


def interval(score: Score) -> tuple[float, float]:
    """(low, high); the value itself where no interval is given."""
    return (
        score.value if score.low is None else score.low,
        score.value if score.high is None else score.high,
    )


def exact(score: Score) -> bool:
    """Whether the score is a count, or otherwise without an interval."""
    low, high = interval(score)
    return low == high


def apart(a: Score, b: Score) -> bool:
    """Whether the two intervals have no point in common."""
    (a_low, a_high), (b_low, b_high) = interval(a), interval(b)
    return a_high < b_low or b_high < a_low


def columns(comparison: Comparison) -> list[Column]:
    """The comparison's columns in order of criterion, then of first appearance.

    What only the floor has is left out: it says nothing of an entry.

    Raises:
      ProtocolError: two rows of a column were measured differently; names both and the difference.
    """
    rows = {run.name: run.scores or () for run in comparison.entries}
    if FLOOR in rows:
        raise ProtocolError(f"an entry is named {FLOOR!r}, as the floor's row is", "rename the entry")
    found = [Column(c, dict(c.scores)) for c in table({**rows, FLOOR: comparison.floor or ()})]
    order = list(CRITERIA)
    return sorted((c for c in found if c.measured), key=lambda c: order.index(c.criterion))


def reason(entry: Run | None, column: Column) -> str:
    """Why a row has no value in a column."""
    if entry is None:
        return "no floor: real data have no such score"
    if entry.status != SCORED:
        return f"{entry.status}: not scored yet"
    if column.kind:
        other = [kind_of(s.name) for s in entry.scores or () if kind_of(s.name)]
        return f"its likelihood is {other[0]}" if other else "has no likelihood"
    if column.criterion == "controllability":
        return "takes no condition"
    return "not measured"


def number(value: float, low: float | None = None, high: float | None = None) -> str:
    """A value with the digits that its interval supports, three where it has none: 8.10, 1.23 M."""
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    scale, suffix = _scale(value)
    text = _round(value / scale, _decimals(value / scale, half / scale))
    if half == 0 and "." in text:
        text = text.rstrip("0").rstrip(".")
    if suffix == "" and abs(value) >= 1000 and "." not in text:
        text = f"{int(text):,}".replace(",", "\u202f")
    return (text + suffix).replace("-", "−")


def spread(score: Score) -> str:
    """The interval: ± where it is symmetric, from low to high where it is not, empty where exact."""
    (low, high), value = interval(score), score.value
    if exact(score):
        return ""
    half = (high - low) / 2
    scale, suffix = _scale(value)
    decimals = _decimals(value / scale, half / scale)
    low, high, value, half = (v / scale for v in (low, high, value, half))
    if low <= value <= high and abs((high - value) - (value - low)) <= 0.3 * half:
        return f"±\u00a0{_round(half, decimals)}{suffix}"
    return f"{_round(low, decimals)} to {_round(high, decimals)}{suffix}".replace("-", "−")


def _scale(value: float) -> tuple[float, str]:
    """(divisor, suffix): metric above ten thousand, a power of ten below a thousandth."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return 1.0, ""
    power = math.floor(math.log10(abs(value)))
    if 1e4 <= abs(value) < 1e21:
        return 1000.0 ** (power // 3), "\u202f" + " kMGTPE"[power // 3]
    return 10.0**power, "\u202f×\u202f10" + str(power).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _decimals(value: float, half: float) -> int:
    """Decimals for a value: to the second digit of an interval that begins with 1 or 2, else to its first."""
    size = math.floor(math.log10(abs(value))) if value else 0
    if half <= 0:  # whole numbers below ten thousand are counts, and shown in full
        return 0 if value == round(value) and abs(value) < 1e4 else max(0, 2 - size)
    first = math.floor(math.log10(half))
    return min(8, -first + (half / 10.0**first < 2.95))


def _round(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def bands(found: Sequence[Column], most: int = 9) -> list[list[Column]]:
    """Columns cut into tables of at most `most`, as even as they can be, a criterion whole where it fits."""
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
    """Those of the seven criteria that have no column here, as they are written."""
    present = {column.criterion for column in found}
    return [label for key, label in CRITERIA.items() if key not in present]


def find(found: Iterable[Column], *words: str) -> Column | None:
    """The first column whose name contains all the words."""
    return next((c for c in found if all(w in c.name.lower() for w in words)), None)
