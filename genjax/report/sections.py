"""Show what was measured: findings, the key table, likelihoods, learning and training curves, caveats.

Each part is a function of the comparison (and its columns) that returns None if it has nothing to show.
"""

from __future__ import annotations

from collections.abc import Sequence

from genjax.evaluation.scores import LIKELIHOOD_KINDS
from genjax.markup import Html, tag
from genjax.report import charts, layout, learning, scoretable, words
from genjax.report.runs import TRAINING, Comparison, Run
from genjax.report.tables import Column

KINDS = {
    "exact": "the model’s own probability of the data",
    "bound": "the true value is at most this",
    "density": "of real-valued data, comparable only with itself",
    "conditional": "of a part of each row given the rest of it",
    "codes": "of the codes of a frozen codec, not of the data",
}
"""{kind of likelihood: what it is}."""


def findings(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return the statements that the intervals support."""
    found = words.findings(comparison, columns)
    if not found:
        return None
    listed = tag("ul", [tag("li", s) for s in found], class_="says")
    return layout.section("findings", "Findings", None, listed)


def scores(comparison: Comparison, columns: Sequence[Column]) -> Html:
    """Return the key table."""
    if not columns:
        return layout.section("scores", "Scores", "No entry has been scored yet.")
    lead = (
        "Every column was measured under one protocol. A value is coloured and marked ◂ only if it is the "
        "best and its interval overlaps with no other family’s. Bars show value and interval on the "
        f"column’s own range. {words.intervals(comparison)}"
    )
    if len(comparison.entries) == 1:
        lead = "Each value with its 95% interval, where it has one; arrows show which way is better."
        lead += f" {words.intervals(comparison)}" if comparison.about.get("entries") else ""
    note = words.listed([m.lower() for m in words.unmeasured(columns)])
    foot = tag("p", f"Of the seven criteria, not measured here: {note}.", class_="lead") if note else None
    return layout.section("scores", "Scores", lead, scoretable.tables(comparison, columns), foot)


def alarms(comparison: Comparison) -> Html | None:
    """Return the entries whose samples left out parts of the training data; None without an alarm."""
    lines = [line for entry in comparison.entries if (line := _alarm(entry)) is not None]
    if not lines:
        return None
    lead = (
        "Alarms of the diagnosis during training: parts of the training data with less than a tenth of the "
        "samples that they should have, or samples of which few lie among the training rows."
    )
    return layout.section("alarms", "Mode collapse", lead, tag("ul", [tag("li", line) for line in lines]))


def _alarm(entry: Run) -> str | None:
    """Return what the diagnosis said of an entry, over all its trainings."""
    seen = [[r for r in run.metrics if "diagnosis/alarm" in r] for run in entry.trainings]
    raised = [[r for r in records if r["diagnosis/alarm"]] for records in seen]
    loud = [records for records in raised if records]
    if not loud:
        return None
    every = [record for records in loud for record in records]
    first = min(record["step"] for record in every)
    missing = max(record["diagnosis/missing"] for record in every)
    precision = min(record.get("diagnosis/precision", 1.0) for record in every)
    last = sum(bool(all_ and all_[-1]["diagnosis/alarm"]) for all_ in seen)
    which = f"in {len(loud)} of {len(seen)} trainings, first" if len(seen) > 1 else "first"
    ends = f"in {last} of {len(seen)} " if len(seen) > 1 else ("" if last else "not ")
    return (
        f"{entry.label}: {which} at step {first:,}; up to {missing:.0%} of the training rows left out, "
        f"precision down to {precision:.2f}. Raised {ends}at the last evaluation."
    )


def learns(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return held-out loss over what was spent, if all families minimise the same quantity."""
    found = learning.section(comparison, columns)
    if found is None:
        return None
    lead, panels = found
    return layout.section("learning", "How fast each learns", lead, layout.cards(panels))


def curves(comparison: Comparison) -> Html | None:
    """Return each family's own training loss."""
    found = [_curve(run, index % 8) for index, run in enumerate(comparison.entries)]
    cards = [card for card in found if card is not None]
    if not cards:
        return None
    lead = (
        "Each family minimises its own loss in its own units: compare a curve with itself, never with "
        "another family’s. Lines are means of neighbouring steps, bands their extremes, dots held-out data."
    )
    return layout.section("curves", "Training curves", lead, layout.cards(cards))


def _curve(run: Run, index: int) -> Html | None:
    """Return the card of one run; None if it has not begun."""
    chart = charts.loss_chart(run, index)
    if chart is None and not (run.metrics or run.config):
        return None
    step, of = run.progress
    note = f"step {layout.thousands(step)}"
    if of and run.status == TRAINING:
        note += f" of {layout.thousands(of)}"
    missing = tag("p", "no loss was logged", class_="none")
    return layout.card(run.label, note, index, chart or missing)


def likelihoods(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return the likelihoods, a table for each kind."""
    found = [c for c in columns if c.kind]
    if not found:
        return None
    scored = [r for r in comparison.entries if r.scores is not None]
    without = [r.label for r in scored if not any(r.name in c.cells for c in found)]
    lead = "The likelihood of held-out data. Each kind has a table of its own: they are not comparable."
    if without:
        verb = "has" if len(without) == 1 else "have"
        lead += f" {words.listed(without)} {verb} no likelihood that can be computed."
    ordered = sorted(found, key=lambda c: LIKELIHOOD_KINDS.index(c.kind))
    cards = [_kind(comparison, column) for column in ordered]
    return layout.section("likelihood", "Likelihood, by kind", lead, layout.cards(cards))


def _kind(comparison: Comparison, column: Column) -> Html:
    """Return the card of one kind of likelihood."""
    index = {run.name: n % 8 for n, run in enumerate(comparison.entries)}
    rows = [
        tag(
            "tr",
            tag("th", tag("i", class_=f"c c{index[name]}"), comparison.labels[name], scope="row"),
            tag("td", charts.interval_bar(column.cells[name], column.measured.values(), index[name])),
            tag("td", words.value_of(column.cells[name])),
            title="; ".join(f"{k}: {v}" for k, v in column.cells[name].detail.items()) or None,
        )
        for name in column.ranked() or column.measured
    ]
    # Only the first letter is raised: `capitalize` would lower the others.
    meaning = KINDS.get(column.kind, column.meaning)
    about = tag("p", f"{meaning[:1].upper()}{meaning[1:]}.", class_="note")
    table = tag("table", tag("tbody", rows), class_="kind")
    return layout.card(column.label, f"{column.unit} {column.arrow}", None, about, table)


def caveats(comparison: Comparison, columns: Sequence[Column]) -> Html:
    """Return what to know before quoting a number."""
    found = words.caveats(comparison, columns)
    listed = tag("ul", [tag("li", s) for s in found], class_="caveats")
    return layout.section("caveats", "Before you quote a number", None, listed)
