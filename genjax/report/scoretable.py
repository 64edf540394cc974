"""Build the key table: the floor first, then the families; columns under the seven criteria."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from genjax.markup import Html, tag
from genjax.report import charts, enough
from genjax.report.runs import FAILED, SCORED, Comparison, Run
from genjax.report.tables import CRITERIA, FLOOR, Column, bands, number, reason, spread


def tables(comparison: Comparison, columns: Sequence[Column]) -> list[Html]:
    """Return the columns as one table, or as several with the same rows if there are many."""
    return [_table(comparison, band) for band in bands(columns)]


def _table(comparison: Comparison, columns: Sequence[Column]) -> Html:
    groups = [(key, len(list(found))) for key, found in groupby(columns, lambda c: c.criterion)]
    criteria = [tag("th", tag("span", CRITERIA[key]), colspan=n, scope="colgroup") for key, n in groups]
    heads = [_head(c, n + 1) for n, c in enumerate(columns)]
    head = tag(
        "thead",
        tag("tr", tag("th"), criteria, class_="group"),
        tag("tr", tag("th", "Family", scope="col"), heads),
    )
    body = [] if comparison.floor is None else [_floor(columns)]
    body += [_row(run, index, columns) for index, run in enumerate(comparison.entries)]
    width = f"min-width:{140 + 92 * len(columns)}px"
    table = tag("table", head, tag("tbody", body), class_="scores", style=width)
    return tag("div", table, class_="scroll", tabindex="0")


def _head(column: Column, place: int) -> Html:
    way = {"higher": "higher is better", "lower": "lower is better"}.get(column.better, "no direction")
    under = ", ".join(f"{k} {v}" for k, v in column.of.protocol.items())
    return tag(
        "th",
        f"{column.label}\u00a0",
        tag("span", column.arrow, title=way),
        tag("small", column.unit) if column.unit else None,
        scope="col",
        data_column=place,
        title=f"{column.meaning}; {under}",
    )


def _floor(columns: Sequence[Column]) -> Html:
    """Return the row of real data against real data."""
    name = tag("th", "Real against real", tag("small", "the floor", style="padding:0"), scope="row")
    return tag("tr", name, [_cell(c, None, None) for c in columns], class_="floor")


def _row(run: Run, index: int, columns: Sequence[Column]) -> Html:
    # The error of a failed run is a sentence: it stands in the title, and in full above the page.
    why = run.state if run.status == FAILED else None
    pending = None if run.status == SCORED else tag("span", run.status, class_="status", title=why)
    if few := enough.few_steps(run):
        pending = tag("span", "few steps", class_="status", title=few)
    name = tag(
        "th",
        tag("i", class_=f"c c{index % 8}"),
        run.label,
        " ",
        pending,
        tag("small", second_name(run)),
        scope="row",
    )
    return tag("tr", name, [_cell(c, run, index % 8) for c in columns], data_entry=index % 8)


def _cell(column: Column, run: Run | None, index: int | None) -> Html:
    score = column.cells.get(run.name if run else FLOOR)
    if score is None:
        return tag("td", "–", tag("small", reason(run, column)) if run else None, class_="na")
    best = run is not None and column.best() == run.name
    return tag(
        "td",
        tag("span", number(score.value, score.low, score.high), class_="v"),
        tag("span", spread(score), class_="pm"),
        charts.interval_bar(score, column.cells.values(), index) if len(column.cells) > 1 else None,
        class_=f"c{index} best" if best else None,
        data_value=repr(score.value),
        title="; ".join(f"{k}: {v}" for k, v in score.detail.items()) or None,
    )


def second_name(run: Run) -> str | None:
    """Return the entry's name, or its family if the name is its label; None if that repeats the label."""
    other = run.name if run.label != run.name else run.family
    same = "".join(filter(str.isalnum, other.lower())) == "".join(filter(str.isalnum, run.label.lower()))
    return None if same else other
