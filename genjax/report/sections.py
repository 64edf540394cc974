"""The parts of the page, each a function of the comparison (and its columns) that may have nothing to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from genjax.markup import Html, tag
from genjax.report import charts, learning, pictures, scoretable, words
from genjax.report.runs import TRAINING, Comparison, Run
from genjax.report.tables import FLOOR, Column, find, number, spread


def hero(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """The strip: a row of real data, then one of each family, class by class."""
    if not any(pictures.rows_of(s) for s in (comparison.real, *(r.samples for r in comparison.entries))):
        return None
    quality = realism(columns)
    rows: list[Html] = []
    if pictures.rows_of(comparison.real):
        floor = quality.cells.get(FLOOR) if quality else None
        rows.append(
            _strip_row(
                comparison,
                "Real data",
                str(comparison.about.get("dataset") or ""),
                comparison.real,
                floor,
                None,
            )
        )
        rows.append(tag("div", class_="rule"))
    for index, run in enumerate(comparison.entries):
        score = quality.cells.get(run.name) if quality else None
        size = next((s.value for s in run.scores or () if s.name in ("params", "parameters")), None)
        beside = scoretable.second_name(run) if not size else f"{number(size)} parameters"
        rows.append(_strip_row(comparison, run.label, beside or "", run.samples, score, index % 8))
    head = tag(
        "div",
        tag("span", "", class_="head mid"),
        tag("span", "first samples of each class, in order of drawing", class_="head mid"),
        tag("span", f"{quality.label} {quality.arrow}" if quality else "", class_="head mid"),
        class_="row",
    )
    return tag("div", head, rows, class_="strip")


def _strip_row(
    comparison: Comparison, name: str, beside: str, samples: Any, score: Any, index: int | None
) -> Html:
    css = "row real" if index is None else f"row c{index}"
    fact = [number(score.value, score.low, score.high), tag("small", spread(score))] if score else ""
    return tag(
        "div",
        tag("div", tag("i", class_="c"), name, tag("small", beside), class_="name"),
        pictures.strip(samples, comparison.levels, f"samples: {name}"),
        tag("div", fact, class_="fact"),
        class_=css,
        data_entry=index,
    )


def realism(columns: Sequence[Column]) -> Column | None:
    """The column that stands for quality: Fréchet distance, the first of realism, or text's likelihood."""
    return (
        find(columns, "frechet")
        or find(columns, "fid")
        or next((c for c in columns if c.criterion == "realism" and c.better != "none"), None)
        or learning.column(columns)
    )


def learns(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Held-out loss over what was spent, all families in one picture where their losses are one quantity."""
    found = learning.section(comparison, columns)
    if found is None:
        return None
    lead, panels = found
    return section("learning", "How fast each learns", lead, tag("div", panels, class_="cards"))


def says(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """What the intervals support."""
    found = words.findings(comparison, columns)
    return (
        section("findings", "What this says", None, tag("ul", [tag("li", s) for s in found], class_="says"))
        if found
        else None
    )


def scores(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """The key table."""
    if not columns:
        return section("scores", "Scores", "No entry has been scored yet.")
    lead = (
        "Every column was measured under one protocol. A value is coloured and marked ◂ only where "
        "it is best and "
        "its interval overlaps with no other family’s; bars show value and interval on the column’s "
        "own range."
    )
    if len(comparison.entries) == 1:
        lead = "Each value with its 95% interval, where it has one; arrows say which way is better."
    note = words.listed([m.lower() for m in words.unmeasured(columns)])
    foot = tag("p", f"Of the seven criteria, not measured here: {note}.", class_="lead") if note else None
    return section("scores", "Scores", lead, scoretable.tables(comparison, columns), foot)


def samples(comparison: Comparison) -> Html | None:
    """Samples of each family beside real data, at equal size."""
    texts = [pictures.text(run) for run in comparison.entries]
    left = any(run.pictures() for run in comparison.entries)
    if not (left or pictures.any_images(comparison) or any(texts)):
        return None
    real, cards = comparison.real or {}, []
    reach = float(abs(real["point"]).max()) * 1.25 if "point" in real else 0.0
    if real:
        sheet = pictures.sheet(real, comparison.levels, "real data", reach)
        cards.append(_card("Real data", "held out", None, sheet))
    for index, run in enumerate(comparison.entries):
        drawn = run.samples or {}
        note = f"{len(next(iter(drawn.values())))} drawn" if drawn else ""
        note += ", no labels" if "image" in drawn and "label" not in drawn else ""
        sheet = texts[index] or (pictures.latest(run) if run.samples is None else None)
        if sheet is None:
            alt = f"samples of {run.label}"
            sheet = pictures.sheet(run.samples, comparison.levels, alt, reach)
        cards.append(_card(run.label, note, index % 8, sheet, pictures.film(run)))
    lead = (
        "The first samples that were drawn, never chosen by eye. Where a family takes a class label, "
        "each column "
        "holds one class. Below a grid, how its samples grew during training."
    )
    title = "Samples beside real data" if real else "Samples"
    return section("samples", title, lead, tag("div", cards, class_="cards"))


def _card(name: str, note: str, index: int | None, *content: Any) -> Html:
    css = "card real" if index is None else f"card c{index}"
    head = tag("header", tag("h3", name), tag("small", note))
    return tag("article", head, content, class_=css, data_entry=index)


def curves(comparison: Comparison) -> Html | None:
    """Each family's own loss."""
    cards = []
    for index, run in enumerate(comparison.entries):
        chart = charts.loss_chart(run, index % 8)
        step, of = run.progress
        note = f"step {step:,}".replace(",", " ") + (
            f" of {of:,}".replace(",", " ") if of and run.status == TRAINING else ""
        )
        if chart is not None:
            cards.append(_card(run.label, note, index % 8, chart))
        elif run.metrics or run.config:
            cards.append(
                _card(
                    run.label,
                    note,
                    index % 8,
                    tag("p", "learns without a loss that is logged", class_="none"),
                )
            )
    if not cards:
        return None
    lead = (
        "Each family minimises a loss of its own, in units of its own: compare a curve with itself, "
        "never with its "
        "neighbour’s. Lines are means of neighbouring steps, bands their extremes, dots held-out data."
    )
    return section("curves", "Training curves", lead, tag("div", cards, class_="cards"))


def costs(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Quality against training FLOPs, training seconds and seconds for each sample."""
    quality = realism(columns)
    if quality is None:
        return None
    panels = []
    for label, cost in cost_axes(comparison, columns):
        dots = [
            charts.Dot(r.label, i % 8, cost[r.name], quality.cells[r.name])
            for i, r in enumerate(comparison.entries)
            if r.name in cost and r.name in quality.cells
        ]
        chart = charts.against(dots, quality, label)
        if chart is not None:
            panels.append(tag("figure", chart, class_="card"))
    if not panels:
        return None
    lead = (
        f"{quality.label} ({'lower' if quality.better == 'lower' else 'higher'} is better) over what "
        "it cost. "
        "Whiskers are the intervals; the grey band is what two sets of real data give, beyond which no "
        "improvement can be seen."
    )
    return section("cost", "Quality against cost", lead, tag("div", panels, class_="cards"))


def cost_axes(comparison: Comparison, columns: Sequence[Column]) -> list[tuple[str, dict[str, float]]]:
    """(axis label, {entry: cost}) of the costs that were measured."""
    out = []
    costs = [c for c in columns if c.criterion == "cost"]
    sizes = find(costs, "parameters")
    flops = find(costs, "train", "flop")
    if flops and "example" in flops.unit:
        seen = {r.name: r.examples for r in comparison.entries}
        total = {name: each * seen[name] for name, each in _values(flops).items() if seen[name]}
        out.append(("Training FLOPs", total))
    elif flops:
        out.append((_named(flops), _values(flops)))
    seconds = find(costs, "train", "second")
    if seconds:
        out.append((_named(seconds), _values(seconds)))
    else:
        last = {
            r.name: max((float(m.get("seconds") or 0) for m in r.metrics), default=0)
            for r in comparison.entries
        }
        out.append(("Training seconds", {k: v for k, v in last.items() if v > 0}))
    rate = [c for c in costs if "per_second" in c.name and "sample" in c.name]
    direct = find([c for c in costs if c not in rate], "sampl", "second")
    if direct:
        out.append((_named(direct), _values(direct)))
    elif rate:
        values = {k: 1 / v for k, v in _values(rate[-1]).items() if v > 0}
        out.append((f"Seconds per sample (1 / {rate[-1].label.lower()})", values))
    kept = {name: charts.numbers_kept(s) for name, s in (sizes.measured if sizes else {}).items()}
    if len({*kept.values()}) > 1:
        out.append(("Parameters (of counting models: numbers kept)", kept))
    return out


def _named(column: Column) -> str:
    return (
        f"{column.label} ({column.unit})"
        if column.unit and column.unit.lower() not in column.label.lower()
        else column.label
    )


def _values(column: Column) -> dict[str, float]:
    return {name: score.value for name, score in column.measured.items()}


def neighbours(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """The samples that lie nearest to the training data, beside what they lie nearest to."""
    score = find(columns, "memorisation")
    cards = []
    for index, run in enumerate(comparison.entries):
        pairs = pictures.pairs(run, comparison.levels)
        if pairs is None:
            continue
        cell = score.cells.get(run.name) if score else None
        note = f"{words.mention(score)} {words.value_of(cell)}" if score and cell else ""
        cards.append(_card(run.label, note, index % 8, pairs))
    if not cards:
        return None
    lead = (
        "Does a family compose new pictures, or recite? For each, the eight samples that lie nearest to any "
        "training image (left), that image (right), and their distance: the most suspicious ones, "
        "not typical ones."
        " Memorisation is the chance that a sample lies nearer to the training data than a fresh "
        "real row does: 0.5 "
        "for new pictures, towards 1 for copies."
    )
    return section("neighbours", "Nearest training images", lead, tag("div", cards, class_="cards"))


KINDS = {
    "exact": "the model’s own probability of the data",
    "bound": "the true value is at most this",
    "density": "of real-valued data, comparable only with itself",
    "conditional": "of a part of each row given the rest of it",
}


def likelihoods(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Likelihoods, a table for each kind."""
    found = [c for c in columns if c.kind]
    if not found:
        return None
    scored = [r for r in comparison.entries if r.scores is not None]
    without = [r.label for r in scored if not any(r.name in c.cells for c in found)]
    lead = (
        "Data under each model, a table for each kind of likelihood: the kinds are never put in one column."
    )
    if without:
        verb = "has" if len(without) == 1 else "have"
        lead += f" {words.listed(without)} {verb} no likelihood that can be computed."
    cards = [_kind(comparison, column) for column in sorted(found, key=lambda c: list(KINDS).index(c.kind))]
    return section("likelihood", "Likelihood, by kind", lead, tag("div", cards, class_="cards"))


def _kind(comparison: Comparison, column: Column) -> Html:
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
    note = f"{column.unit} {column.arrow}"
    about = tag("p", f"{KINDS[column.kind]}.".capitalize(), class_="note")
    return _card(column.label, note, None, about, tag("table", tag("tbody", rows), class_="kind"))


def protocol(comparison: Comparison, columns: Sequence[Column]) -> Html:
    """Everything that the numbers depend on."""
    about = comparison.about
    dataset = next((r.dataset for r in comparison.entries if r.dataset), {})
    general = {
        "dataset": about.get("dataset"),
        "fingerprint": dataset.get("fingerprint"),
        "budget": budget(about),
        **{f"features: {k}": v for k, v in (about.get("features") or {}).items()},
        **{f"evaluation: {k}": v for k, v in (about.get("evaluate") or {}).items()},
    }
    by_column = [
        tag(
            "tr",
            tag("th", c.label, scope="row"),
            tag("td", ", ".join(f"{k} {v}" for k, v in c.of.protocol.items())),
        )
        for c in columns
    ]
    knobs = [
        tag(
            "tr",
            tag("th", tag("i", class_=f"c c{i % 8}"), r.label, scope="row"),
            tag("td", r.description),
            tag("td", ", ".join(f"{k} {v}" for k, v in r.knobs.items()) or "defaults"),
            tag("td", r.config.get("seed", "")),
            tag("td", f"{r.progress[0]:,}".replace(",", " ")),
        )
        for i, r in enumerate(comparison.entries)
    ]
    entries = tag("tr", [tag("th", t, scope="col") for t in ("Entry", "", "Sampler", "Seed", "Steps")])
    return section(
        "protocol",
        "Protocol",
        None,
        definitions(general),
        tag("div", tag("table", tag("thead", entries), tag("tbody", knobs)), class_="scroll"),
        tag("details", tag("summary", "The protocol of each column"), tag("table", tag("tbody", by_column)))
        if by_column
        else None,
    )


def reproduce(about: dict[str, Any], runs: Sequence[Run]) -> Html:
    """The command, the versions, and every config as it was resolved."""
    configs = [
        tag(
            "details",
            tag("summary", run.label, " ", tag("small", f"{run.directory.name}/config.json")),
            tag("pre", json.dumps(run.config, indent=2, ensure_ascii=False)),
        )
        for run in runs
        if run.config
    ]
    command = tag("pre", about["command"], class_="command") if about.get("command") else None
    environment = about.get("environment") or {}
    return section("reproduce", "Reproduce", None, command, definitions(environment), configs)


def caveats(comparison: Comparison, columns: Sequence[Column]) -> Html:
    """What to know before quoting."""
    found = words.caveats(comparison, columns)
    return section(
        "caveats",
        "Before you quote a number",
        None,
        tag("ul", [tag("li", s) for s in found], class_="caveats"),
    )


def section(name: str, title: str, lead: str | None, *content: Any) -> Html:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, content, id=name)


def definitions(values: dict[str, Any]) -> Html | None:
    """Names and values; nested mappings are flattened, what is missing is left out."""
    rows = []
    for key, value in values.items():
        if value is None or value == "":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        rows.append([tag("dt", key), tag("dd", value)])
    return tag("dl", rows) if rows else None


def budget(about: dict[str, Any]) -> str:
    """The budget in words."""
    found = about.get("budget") or {}
    if not found.get("value"):
        return ""
    value = found["value"]
    amount = number(float(value)) if isinstance(value, int | float) else str(value)
    unit = {
        "seconds": "seconds of training each",
        "steps": "steps each",
        "examples": "training rows each",
        "flops": "FLOPs of training each",
    }
    return f"{amount} {unit.get(str(found.get('kind')), str(found.get('kind')))}"
