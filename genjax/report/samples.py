"""Show what the models drew: the strip at the head, samples beside real data, and nearest training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genjax import kinds
from genjax.evaluation.scores import Score
from genjax.markup import Html, tag
from genjax.report import embedded, layout, pictures, scoretable, words
from genjax.report.pictures import Rows
from genjax.report.runs import FAILED, Comparison, Run
from genjax.report.tables import FLOOR, Column, find, number, quality, spread
from genjax.spec import Spec


def hero(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return the strip: a line of real data, then one of each family; None if nothing can be drawn so."""
    measured = quality(columns)
    strips = [pictures.strip(r.spec, r.samples, r.spec.targets, _alt(r)) for r in comparison.entries]
    real = _real_row(comparison, measured)
    if not real and not any(strips):
        return None
    above = _given_rows(comparison) + real
    rows = [*above, tag("div", class_="rule")] if above else []
    for index, (run, drawn) in enumerate(zip(comparison.entries, strips, strict=True)):
        score = measured.cells.get(run.name) if measured else None
        rows.append(_strip_row(run.label, _under(run), drawn or _missing(run), score, index % 8))
    return tag("div", _strip_head(comparison.spec, measured), rows, class_="strip")


def _alt(run: Run) -> str:
    return f"samples: {run.label}"


def _under(run: Run) -> str:
    """Return what is written under the name of an entry: its size, or its other name."""
    size = next((s.value for s in run.scores or () if s.name in ("params", "parameters")), None)
    return f"{number(size)} parameters" if size else scoretable.second_name(run) or ""


def _by_class(spec: Spec) -> bool:
    """Return True if a sampler is given a class label, by which samples are arranged."""
    return any(kinds.label_of(spec, name) in spec.conditions for name in spec.targets)


def _strip_head(spec: Spec, measured: Column | None) -> Html:
    by_class = _by_class(spec) and not pictures.given(spec)
    what = "first samples of each class, in order of drawing" if by_class else "first samples, as drawn"
    texts = ("", what, f"{measured.label} {measured.arrow}" if measured else "")
    return tag("div", [tag("span", text, class_="head mid") for text in texts], class_="row")


def _real_row(comparison: Comparison, measured: Column | None) -> list[Html]:
    """Return the line of real data with the floor; none without real data that can be drawn."""
    spec = comparison.spec
    drawn = pictures.strip(spec, _in_order(comparison), spec.targets, "samples: Real data")
    floor = measured.cells.get(FLOOR) if measured else None
    name = str(comparison.about.get("dataset") or "")
    return [_strip_row("Real data", name, drawn, floor, None)] if drawn else []


def _given_rows(comparison: Comparison) -> list[Html]:
    """Return a line for each condition that is a picture: sample i answers row i of the held-out data."""
    spec = comparison.spec
    rows = _in_order(comparison) or next((r.samples for r in comparison.entries if r.samples), None)
    drawn = {name: pictures.strip(spec, rows, [name], f"input: {name}") for name in pictures.given(spec)}
    return [_strip_row("Input", name, found, None, None) for name, found in drawn.items() if found]


def _in_order(comparison: Comparison) -> Rows | None:
    """Return the real rows; with inputs beside them, without a label that would change their order."""
    spec = comparison.spec
    real = comparison.real
    if real is None or not pictures.given(spec) or spec.label in spec.conditions:
        return real
    return {name: column for name, column in real.items() if name != spec.label}


def _missing(run: Run, element: str = "div") -> Html:
    return tag(element, "no samples" if run.status == FAILED else "no samples yet", class_="none")


def _strip_row(name: str, under: str, drawn: Html, score: Score | None, index: int | None) -> Html:
    css = "row real" if index is None else f"row c{index}"
    fact = [number(score.value, score.low, score.high), tag("small", spread(score))] if score else ""
    return tag(
        "div",
        tag("div", tag("i", class_="c"), name, tag("small", under), class_="name"),
        drawn,
        tag("div", fact, class_="fact"),
        class_=css,
        data_entry=index,
    )


def samples(comparison: Comparison) -> Html | None:
    """Return the samples of each family beside real data, at equal size; None if nothing can be shown."""
    real = _real_card(comparison)
    shown = [_entry(comparison, run) for run in comparison.entries]
    if real is None and not any(shown):
        return None
    cards = [] if real is None else [real]
    for index, (run, content) in enumerate(zip(comparison.entries, shown, strict=True)):
        cards.append(layout.card(run.label, _note(run), index % 8, content or _missing(run, "p")))
    title = "Samples" if real is None else "Samples beside real data"
    return layout.section("samples", title, _lead(comparison), layout.cards(cards))


VERBS = {
    "interpolate": "Paths between held-out rows",
    "traverse": "One dimension of the code at a time",
    "edit": "Attributes changed",
    "search": "Rows, their codes decoded, and the codes that were found",
    "map": "Codes on a plane",
    "project": "Rows, the nearest draws, and the codes that were found",
    "mix": "Styles of the rows, with some layers from the columns",
    "factors": "Directions found without labels",
    "curve": "Scores as an option of the sampler changes",
}
"""Titles of the pictures that `genjax latent` writes."""


EDITS = {
    "inpaint": "Rows, what is known of them, and what was drawn in the rest",
    "outpaint": "Rows, their middles, and what was drawn around them",
    "vary": "Rows that were noised and denoised, more and more",
    "restore": "Rows, what was measured, its pseudo-inverse, and what was drawn to agree with it",
    "steer": "Draws that a classifier leads",
    "interpolate": "Paths between the noises of rows",
}
"""Titles of the pictures that `genjax edit` writes."""


def latent(run: Run) -> Html | None:
    """Return the pictures of the latent space; None if `genjax latent` has written none."""
    return _of_verbs(run, "latent", "Latent space", VERBS)


def edits(run: Run) -> Html | None:
    """Return the pictures of edits; None if `genjax edit` has written none."""
    return _of_verbs(run, "edit", "Edits", EDITS)


def _of_verbs(run: Run, folder: str, heading: str, titles: Mapping[str, str]) -> Html | None:
    cards = []
    for verb, title in titles.items():
        for path in sorted((run.directory / folder).glob(f"{verb}*.png")):
            drawn = embedded.show(path, f"{title}, {run.label}")
            if drawn is not None:
                cards.append(layout.card(title, path.stem, None, drawn))
    return layout.section(folder, heading, None, layout.cards(cards)) if cards else None


def _real_card(comparison: Comparison) -> Html | None:
    if comparison.real is None:
        return None
    drawn = pictures.cards(
        comparison.spec,
        comparison.real,
        "real data",
        real=comparison.real,
        captions=comparison.captions,
        saved=comparison.directory / "real" / "final",
    )
    return layout.card("Real data", "held out", None, _named(drawn)) if drawn else None


def _entry(comparison: Comparison, run: Run) -> list[Any]:
    """Return a card's content: the samples of each target, and how they changed during training."""
    drawn = dict(
        pictures.cards(
            run.spec,
            run.samples,
            f"samples of {run.label}",
            real=comparison.real,
            captions=run.captions,
            saved=run.directory / "samples" / "final",
        )
    )
    found = []
    for name in run.spec.targets:
        last = drawn.get(name) or pictures.latest(run, name)
        parts = (last, pictures.film(run, name), pictures.animation(run, name))
        content = [part for part in parts if part is not None]
        if content:
            found.append((name, content))
    return _named(found)


def _named(drawn: Sequence[tuple[str, Any]]) -> list[Any]:
    """Return the content of several elements, each under its name; the name is left out if there is one."""
    if len(drawn) < 2:
        return [content for _, content in drawn]
    return [tag("div", tag("h4", name), content, class_="element") for name, content in drawn]


def _note(run: Run) -> str:
    drawn = run.samples or {}
    note = f"{len(next(iter(drawn.values())))} drawn" if drawn else ""
    label = run.spec.label
    unlabelled = bool(drawn) and label in run.spec.conditions and label not in drawn
    return note + (", no labels" if unlabelled else "")


def _lead(comparison: Comparison) -> str:
    spec = comparison.spec
    parts = ["The first samples that were drawn; none were chosen by eye."]
    if pictures.given(spec):
        parts.append("Each output stands beside the input that it answers.")
    elif _by_class(spec):
        parts.append("Where a family takes a class label, each column holds one class.")
    if any(len(run.pictures()) > 1 for run in comparison.entries):
        parts.append("Smaller pictures below show how the samples changed during training.")
    return " ".join(parts)


def neighbours(comparison: Comparison, columns: Sequence[Column]) -> Html | None:
    """Return the samples that lie nearest to the training data, each beside its nearest training row."""
    score = find(columns, "memorisation")
    cards = []
    for index, run in enumerate(comparison.entries):
        pairs = pictures.pairs(run)
        if pairs is None:
            continue
        cell = score.cells.get(run.name) if score else None
        note = f"{words.mention(score)} {words.value_of(cell)}" if score and cell else ""
        cards.append(layout.card(run.label, note, index % 8, pairs))
    if not cards:
        return None
    lead = (
        "Do samples copy the training data? For each family, the eight samples that lie nearest to any "
        "training row (left), that row (right), and their distance: the most suspicious samples, not "
        "typical ones. Memorisation is the probability that a sample lies nearer to the training data than "
        "a fresh real row does: 0.5 for new samples, towards 1 for copies."
    )
    return layout.section("neighbours", "Nearest training rows", lead, layout.cards(cards))
