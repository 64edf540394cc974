"""Write the report of a sweep: a table and a plot of the settings, from sweep.json and results.json alone.

results.json is an object:

    settings   [{values {field: value}, name,
                 score {name, value, low, high, better, unit, ...}: the mean over seeds, or null,
                 runs [{run (its directory, relative), seed, value (null if it is not finished),
                        error (why it failed, else an empty string)}]}]

sweep.json says what was swept; genjax/workflows/sweep/plan.py describes it.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from genjax import __version__, files
from genjax.errors import DataError
from genjax.evaluation.scores import table
from genjax.markup import Html, tag
from genjax.report import charts, layout, protocol, sweepplot, words
from genjax.report.page import page
from genjax.report.runs import REGENERATE, load_json
from genjax.report.sweepplot import Setting, shown
from genjax.report.tables import Column, number, spread

ENOUGH = 3
"""Seeds that an interval needs: over two, it is several times wider than the values."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Hold a sweep's directory.

    Attributes:
      about: sweep.json.
      settings: with their results.
    """

    directory: Path
    about: dict[str, Any]
    settings: tuple[Setting, ...]

    @property
    def fields(self) -> list[str]:
        """The fields that vary."""
        return [str(field) for field in self.about["fields"]]

    @cached_property
    def column(self) -> Column | None:
        """The settings' scores, by label; None if no run is finished."""
        rows = {s.label: [s.score] for s in self.settings if s.score is not None}
        found = table(rows)
        return Column(found[0], dict(found[0].scores)) if found else None

    @property
    def counts(self) -> tuple[int, int, int]:
        """(finished runs, failed runs, all runs)."""
        runs = [run for s in self.settings for run in s.runs]
        return sum(r.value is not None for r in runs), sum(bool(r.error) for r in runs), len(runs)


def read(directory: str | Path) -> Sweep:
    """Read a sweep.

    Raises:
      DataError: a file is missing, or holds something else.
    """
    directory = Path(directory)
    about = load_json(directory / "sweep.json")
    results = load_json(directory / "results.json")
    if about is None or results is None:
        raise DataError(f"no finished run of a sweep in {directory}", "give a directory of `genjax sweep`")
    try:
        settings = tuple(Setting.from_json(s) for s in results["settings"])
        found = Sweep(directory, dict(about), settings)
        known = found.fields and all(set(found.fields) == set(s.values) for s in settings)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory / 'results.json'} cannot be read: {error!r}", REGENERATE) from error
    if not known:
        raise DataError(f"{directory / 'results.json'} has other fields than sweep.json", REGENERATE)
    return found


def write(directory: str | Path) -> Path:
    """Write report.html of a sweep, finished or not; return its path.

    Raises:
      DataError: a file cannot be read.
    """
    sweep = read(directory)
    about = sweep.about
    text = page(
        f"{about.get('name')}: {words.listed(sweep.fields)}",
        " · ".join(w for w in ("genjax sweep", str(about.get("dataset") or "")) if w),
        stand(sweep),
        None,
        [
            _findings(sweep),
            _plot(sweep),
            layout.section("table", "Table", _lead(sweep), results_table(sweep)),
            _failures(sweep),
            _caveats(sweep),
            protocol.reproduce(about, []),
            _config(about),
        ],
        f"Written by genjax {__version__} from the files of {sweep.directory.name}/. "
        "The same numbers for programs: results.json.",
    )
    return files.write_text(sweep.directory / "report.html", text)


def stand(sweep: Sweep) -> str:
    """Return the paragraph under the headline: what was swept, and how far it is."""
    done, failed, total = sweep.counts
    settings = f"{len(sweep.settings)} settings" if len(sweep.settings) > 1 else "One setting"
    seeds = sweep.about.get("seeds")
    said = (
        f"{settings} of {sweep.about.get('config')} with {seeds} {'seeds' if seeds != 1 else 'seed'} each: "
    )
    said += f"{done} of {total} runs are finished"
    return said + (f" and {failed} failed." if failed else ".")


def findings(sweep: Sweep) -> list[str]:
    """Return sentences on the best setting: only what the intervals support."""
    column = sweep.column
    if column is None or len(column.ranked()) < 2:
        return []
    first, second = column.ranked()[:2]
    best = column.cells[first]
    way = "lowest" if column.better == "lower" else "highest"
    said = f"The {way} mean {words.mention(column)} is that of {first}: {words.value_of(best)}"
    of_best = next(s for s in sweep.settings if s.label == first)
    failed = sum(bool(run.error) for run in of_best.runs)
    if failed:
        said += f" (over the seeds that did not fail; {failed} did)"
    few = [s for s in sweep.settings if s.score is not None and s.finished < ENOUGH]
    if few:
        fewest = min(s.finished for s in few)
        return [
            f"{said}. No setting is called better than another: a setting has only {fewest} finished "
            f"{'runs' if fewest != 1 else 'run'}, and an interval over seeds needs {ENOUGH}."
        ]
    level = [name for name in column.level() if name != first]
    if level:
        return [f"{said}. It cannot be told from that of {words.listed(level)}: their intervals overlap."]
    return [f"{said}, against {words.value_of(column.cells[second])} of {second}, the next."]


def text(directory: str | Path) -> str:
    """Return the table for a terminal: a line for each setting, the best first.

    Raises:
      DataError: a file cannot be read.
    """
    sweep = read(directory)
    column = sweep.column
    order = column.ranked() if column else []
    ranked = sorted(sweep.settings, key=lambda s: order.index(s.label) if s.label in order else len(order))
    width = max(len(s.label) for s in ranked)
    lines = [f"  {'':<{width}}  {f'{column.label} {column.arrow}' if column else ''}".rstrip()]
    for s in ranked:
        said = words.value_of(s.score) if s.score is not None else "no finished run"
        failed = sum(bool(run.error) for run in s.runs)
        lines.append(f"  {s.label:<{width}}  {said}{f', {failed} failed' if failed else ''}")
    return "\n".join([*lines, *(f"  {s}" for s in findings(sweep))])


def _findings(sweep: Sweep) -> Html | None:
    found = findings(sweep)
    listed = tag("ul", [tag("li", s) for s in found], class_="says")
    return layout.section("findings", "Findings", None, listed) if found else None


def _plot(sweep: Sweep) -> Html | None:
    column = sweep.column
    if column is None:
        return None
    scales = sweep.about.get("scales") or {}
    panels = sweepplot.panels(sweep.settings, sweep.fields, scales, f"{column.label} {column.arrow}")
    most = max(s.finished for s in sweep.settings)
    lead = "A dot is one run." if most < 2 else "A small dot is one run, and a large one the mean over seeds."
    lead += f" Bars are 95% intervals over {ENOUGH} seeds or more." if most >= ENOUGH else ""
    lead += " A cross marks runs that failed." if sweep.counts[1] else ""
    built = layout.cards(panels) if len(panels) > 1 else tag("div", panels, style="max-width:640px")
    return layout.section("plot", "Plot", lead, built)


def _lead(sweep: Sweep) -> str | None:
    column = sweep.column
    if column is None:
        return "No run is finished yet."
    return (
        f"{column.label}: {column.meaning}. The interval is Student’s t at 95% over seeds, which differ in "
        "initialisation, noise and the order of the rows."
    )


def results_table(sweep: Sweep) -> Html:
    """Return the settings with their fields, mean, interval and the value of each run."""
    seeds = max(len(s.runs) for s in sweep.settings)
    column = sweep.column
    score = f"{column.label} {column.arrow}" if column else "Score"
    heads = [*sweep.fields, score, *(f"Seed {r.seed}" for r in sweep.settings[0].runs[:seeds])]
    cells = [tag("th", head, scope="col", data_column=n) for n, head in enumerate(heads)]
    body = [_row(sweep, setting) for setting in sweep.settings]
    built = tag("table", tag("thead", tag("tr", cells)), tag("tbody", body))
    return tag("div", built, class_="scroll", tabindex="0")


def _row(sweep: Sweep, setting: Setting) -> Html:
    values = [setting.values[field] for field in sweep.fields]
    named = [tag("td", shown(v), data_value=v if isinstance(v, int | float) else None) for v in values]
    return tag("tr", named, _mean(sweep, setting), [_run(run) for run in setting.runs])


def _mean(sweep: Sweep, setting: Setting) -> Html:
    """Return the cell with the mean of a setting, marked if no other setting's interval overlaps."""
    score = setting.score
    column = sweep.column
    if score is None or column is None:
        return tag("td", "–", class_="na")
    enough = all(s.finished >= ENOUGH for s in sweep.settings if s.score is not None)
    best = enough and column.best() == setting.label
    return tag(
        "td",
        tag("span", number(score.value, score.low, score.high), class_="v"),
        " ",
        tag("span", spread(score), class_="pm"),
        charts.interval_bar(score, column.cells.values(), 0) if len(column.cells) > 1 else None,
        class_="c0 best" if best else None,
        data_value=repr(score.value),
    )


def _run(run: sweepplot.Run) -> Html:
    """Return the cell of one run."""
    if run.error:
        return tag("td", "failed", class_="na", title=run.error)
    if run.value is None:
        return tag("td", "–", class_="na", title="not finished")
    return tag("td", f"{run.value:.5g}".replace("-", "−"), data_value=repr(run.value), title=run.name)


def _failures(sweep: Sweep) -> Html | None:
    """Return the errors of the runs that failed."""
    found = [(run.name, run.error) for s in sweep.settings for run in s.runs if run.error]
    if not found:
        return None
    listed = tag("dl", [[tag("dt", name), tag("dd", error)] for name, error in found])
    lead = (
        "The same command tries these runs again. A mean is over the seeds that did not fail, which makes it "
        "look better than it is."
    )
    return layout.section("failed", "Failed runs", lead, listed)


def _caveats(sweep: Sweep) -> Html:
    """Return what to know before quoting a number."""
    said = [
        "The best of many settings looks better than it is: it was chosen by the number that is shown. "
        "Measure the chosen setting again with other seeds, and on rows that were not used for the choice."
    ]
    if sweep.about.get("score") is None:
        said.append(
            "The loss is the model’s own objective. Settings that change the objective itself, such as the "
            "weight of one of its terms, cannot be ranked by it; --score=NAME ranks them by a score of the "
            "evaluation."
        )
    listed = tag("ul", [tag("li", s) for s in said], class_="caveats")
    return layout.section("caveats", "Before you quote a number", None, listed)


def _config(about: dict[str, Any]) -> Html:
    """Return the config that all runs share, without the swept values."""
    raw = json.dumps(about.get("raw"), indent=2, ensure_ascii=False)
    shared = tag("details", tag("summary", str(about.get("config"))), tag("pre", raw))
    lead = "What all runs share; the config.json of each run has every field with its value."
    return layout.section("config", "Config", lead, shared)
