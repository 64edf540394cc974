"""Write sentences about the scores: only what their intervals support."""

from __future__ import annotations

from collections.abc import Sequence

from genjax.evaluation.scores import Score
from genjax.report import enough
from genjax.report.runs import FAILED, Comparison
from genjax.report.tables import FLOOR, Column, apart, exact, find, interval, number, spread, unmeasured


def findings(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """Return sentences on realism, diversity, control, likelihood, cost and memorisation, in that order.

    What is withheld is named at the end, with the reason (report/enough.py).
    """
    names = comparison.labels
    sure = enough.claimable(comparison, columns)
    said = [
        *_realism(find(sure, "frechet") or find(sure, "fid") or find(sure, "kid"), names),
        *_leader(find(sure, "recall") or find(sure, "coverage"), "covers most of the data’s variety", names),
        *_leader(_class_accuracy(sure), "follows its class labels most reliably", names),
        *(s for c in sure if c.kind for s in _leader(c, LIKELY[c.kind], names)),
        *_cost(columns, names),
        *_memorised(sure, names),
    ]
    return said + enough.withheld(comparison, columns) + _unscored(comparison)


def intervals(comparison: Comparison) -> str:
    """Return the sentence that says what the intervals cover."""
    repeats = max((len(r.trainings) for r in comparison.entries), default=1)
    if repeats > 1:
        return (
            f"Intervals are 95% intervals over {repeats} trainings of each family with different seeds, and "
            "over sample sets or held-out rows: they cover the variation of training and of measuring. Those "
            "of real data are over rows."
        )
    return (
        "Intervals are 95% intervals over sample sets or held-out rows, of one training of each family: "
        "they do not cover the variation of training."
    )


def spent(comparison: Comparison) -> str:
    """Return the sentence on the seconds that each entry spent on training; empty if none are logged."""
    each = []
    for run in comparison.entries:
        seconds = [number(float(f"{r.seconds:.3g}")) for r in run.trainings if r.seconds > 0]
        if seconds:
            each.append(f"{run.label} {' + '.join(seconds)}")
    if not each:
        return ""
    return f"Seconds spent on training, without compilation and evaluation: {', '.join(each)}."


def _unscored(comparison: Comparison) -> list[str]:
    """Return sentences on the entries that the other sentences leave out."""
    waiting = [f"{r.label} ({r.status})" for r in comparison.entries if r.pending]
    failed = [r.label for r in comparison.entries if r.status == FAILED]
    said = []
    if waiting:
        verb = "is" if len(waiting) == 1 else "are"
        said.append(f"{listed(waiting)} {verb} not scored yet and left out of the other sentences.")
    if failed:
        said.append(f"{listed(failed)} failed; the error is stated at the head of this page.")
    return said


LIKELY = {
    "exact": "gives the data the highest likelihood",
    "bound": "has the best bound of the likelihood",
    "density": "gives the data the highest density",
    "conditional": "predicts the missing part of a row best",
    "codes": "gives the codes of the data the highest likelihood",
}
"""{kind of likelihood: what the best family does}."""


def mention(column: Column) -> str:
    """Return the column's heading as it is written inside a sentence."""
    label = column.label
    # Acronyms and names of people keep their capital.
    keep = label[:2].isupper() or label.startswith("Fréchet")
    return label if keep else label[:1].lower() + label[1:]


def listed(names: Sequence[str]) -> str:
    """Write a list: a, b and c."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def value_of(score: Score) -> str:
    """Write a value with its interval, for a sentence."""
    value = number(score.value, score.low, score.high)
    around = spread(score)
    if not around:
        return value
    return f"{value}\u00a0{around}" if around.startswith("±") else f"{value}, interval {around}"


def _class_accuracy(columns: Sequence[Column]) -> Column | None:
    return next((c for c in columns if c.criterion == "controllability" and "accuracy" in c.name), None)


def _leader(column: Column | None, does: str, names: dict[str, str]) -> list[str]:
    if column is None or len(column.ranked()) < 2:
        return []
    first, second = column.ranked()[:2]
    level = [names[name] for name in column.level() if name != first]
    value = value_of(column.cells[first])
    if not level:
        return [
            f"{names[first]} {does}: {mention(column)} {value}, "
            f"against {value_of(column.cells[second])} for {names[second]}, the next."
        ]
    return [
        f"By {mention(column)} {names[first]} is ahead ({value}), but cannot be told from {listed(level)}: "
        "their intervals overlap."
    ]


def _realism(column: Column | None, names: dict[str, str]) -> list[str]:
    if column is None:
        return []
    said = _leader(column, "is nearest to the real data", names)
    floor = column.cells.get(FLOOR)
    ranked = column.ranked()
    if floor is None or not ranked:
        return said
    at_floor = [names[name] for name in ranked if not apart(floor, column.cells[name])]
    if at_floor:
        said.append(
            f"At this number of samples {listed(at_floor)} cannot be told from a second set of real data by "
            f"{mention(column)} (the floor is {value_of(floor)})."
        )
    elif floor.value > 0 and column.better == "lower":
        ratio = (column.cells[ranked[0]].value) / floor.value
        said.append(
            f"No family reaches the floor: the best, {names[ranked[0]]}, is at {number(round(ratio, 1))} "
            "times the "
            f"{mention(column)} between two sets of real data ({value_of(floor)})."
        )
    return said


def _cost(columns: Sequence[Column], names: dict[str, str]) -> list[str]:
    return [*_speed(columns, names), *_size(columns, names)]


def _speed(columns: Sequence[Column], names: dict[str, str]) -> list[str]:
    """Compare the fastest and the slowest sampler at the largest batch."""
    speeds = [c for c in columns if c.criterion == "cost" and "per_second" in c.name and len(c.ranked()) > 1]
    if not speeds:
        return []
    speed = speeds[-1]
    fast = speed.ranked()[0]
    slow = speed.ranked()[-1]
    ratio = speed.cells[fast].value / max(speed.cells[slow].value, 1e-12)
    if ratio < 1.5 or not apart(speed.cells[fast], speed.cells[slow]):
        return []
    return [
        f"Sampling speed differs by a factor of about {number(float(f'{ratio:.2g}'))}: {names[fast]} draws "
        f"{_rough(speed.cells[fast])} {mention(speed)}, {names[slow]} {_rough(speed.cells[slow])}."
    ]


def _size(columns: Sequence[Column], names: dict[str, str]) -> list[str]:
    """Compare the smallest and the largest model."""
    size = find(columns, "parameters")
    if size is None or len(size.ranked()) < 2 or size.cells[size.ranked()[-1]].value <= 0:
        return []
    small = size.ranked()[0]
    large = size.ranked()[-1]
    return [
        f"Sizes differ: from {_rough(size.cells[small])} parameters learned by gradient "
        f"({names[small]}) to {_rough(size.cells[large])} ({names[large]})."
    ]


def _rough(score: Score) -> str:
    value = float(f"{score.value:.3g}") if exact(score) else score.value
    return number(value, score.low, score.high)


def _memorised(columns: Sequence[Column], names: dict[str, str]) -> list[str]:
    """Name the entries whose samples are nearer to the training data than fresh data: interval above 1/2."""
    column = next((c for c in columns if c.name == "memorisation"), None)
    if column is None or not column.measured:
        return []
    near = {names[n]: s for n, s in column.measured.items() if interval(s)[0] > 0.5}
    if not near:
        return ["No family’s samples lie nearer to the training data than fresh real data do (memorisation)."]
    each = listed([f"{name} ({value_of(score)})" for name, score in near.items()])
    return [
        f"Samples of {each} lie nearer to the training data than fresh real data do (memorisation; fresh "
        "data would have 0.5). Blur has the same effect as copying: look at the nearest training rows."
    ]


BUDGETS = {
    "seconds": "training time on this machine",
    "steps": "numbers of steps",
    "flops": "training FLOPs",
}


def caveats(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """Return what a careful reader must know before quoting the numbers of this comparison."""
    several = (
        "A best value is marked only if its interval overlaps with no other; with several columns, some "
        "differences will look clear by chance."
    )
    return [*_setting(comparison), *_measurement(columns), several]


def _setting(comparison: Comparison) -> list[str]:
    """Return the limits of the comparison: floor, features, seeds and budget."""
    said = []
    if comparison.floor is None:
        said.append("There is no real-against-real floor: the smallest possible distance is not known.")
    features = comparison.about.get("features")
    if features:
        accuracy = features.get("accuracy")
        how_good = f" (held-out accuracy {accuracy})" if accuracy is not None else ""
        said.append(
            f"Distances are measured in the features of one classifier{how_good}. They are not comparable "
            "with figures from papers (Inception features), nor with comparisons under another features "
            "digest."
        )
    if comparison.entries and all(len(r.trainings) == 1 for r in comparison.entries):
        said.append(
            "Each family was trained once, with one seed. The intervals are those of sampling and of "
            "evaluation, not of training: another seed may order close families differently."
        )
    budget = comparison.about.get("budget")
    if budget:
        kind = str(budget.get("kind", ""))
        said.append(
            f"Equal budget means equal {BUDGETS.get(kind, kind)}. Under another budget, or after more "
            "tuning, the order may change."
        )
    return said


def _measurement(columns: Sequence[Column]) -> list[str]:
    """Return the limits of what was measured: kinds of likelihood, and criteria without a score."""
    said = []
    kinds = sorted({c.kind for c in columns if c.kind})
    if len(kinds) > 1:
        said.append(
            f"Likelihoods are of different kinds here ({listed(kinds)}) and stand in separate columns; a "
            "bound may be loose, and a density of real-valued data is not a probability."
        )
    missing = unmeasured(columns)
    if missing and columns:
        said.append(f"Not measured in this comparison: {listed([m.lower() for m in missing])}.")
    return said
