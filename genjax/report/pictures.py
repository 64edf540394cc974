"""Draw samples, real rows and nearest neighbours through the kinds of their elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genjax import kinds
from genjax.kinds import Field, Kind
from genjax.markup import Html, tag
from genjax.report import embedded
from genjax.report.runs import Run
from genjax.spec import Spec

if TYPE_CHECKING:
    import numpy as np

Rows = Mapping[str, "np.ndarray"]
STRIP = 20
"""Samples of a strip."""
BESIDE = 12
"""Samples that are shown beside their conditions."""
PAIRS = 8
"""Samples that are shown beside their nearest training rows."""


def strip(spec: Spec, rows: Rows | None, names: Sequence[str], alt: str) -> Html | None:
    """Return one line of rows, of the first of the named elements that has such a form; None without one."""
    for field, kind in kinds.fields(spec, rows or {}, names):
        found = kind.strip(field, alt, STRIP)
        if found is not None:
            return found
    return None


def given(spec: Spec) -> list[str]:
    """Return the names of the conditions that are shown as pictures."""
    return [name for name, kind in kinds.shown(spec, spec.conditions) if kind.PICTURE]


def cards(
    spec: Spec,
    rows: Rows | None,
    alt: str,
    *,
    real: Rows | None = None,
    captions: Sequence[str] | None = None,
    saved: Path | None = None,
) -> list[tuple[str, Html]]:
    """Draw every target beside its conditions that are pictures, or below them if it has no such form.

    Args:
      spec: of the rows.
      rows: {column: array}; None without samples.
      alt: a description for readers who do not see pictures.
      real: real rows, which set the axes of plots.
      captions: a text for each of the first rows.
      saved: where `kinds.save_rows` has written the same rows, without suffix. It is shown if a kind draws
        nothing here: text needs a tokenizer, which a report does not have.

    Returns:
      (element, its markup) of each target that can be shown.
    """
    scales = {field.name: field for field, _ in kinds.fields(spec, real or {}, spec.targets)}
    conditions = kinds.pictures(kinds.fields(spec, rows or {}, spec.conditions))
    fields = {field.name: field for field, _ in kinds.fields(spec, rows or {}, spec.targets)}
    out = []
    for name, kind in kinds.shown(spec, spec.targets):
        field = fields.get(name)
        drawn = _beside(conditions, field, kind, alt) if field else None
        if drawn is None:
            own = _card(field, kind, alt, scales.get(name), captions) if field else None
            if own is None and saved is not None:
                own = embedded.show(_path(spec, saved, name, kind), alt)
            drawn = own and _below(conditions, own)
        if drawn is not None:
            out.append((name, drawn))
    return out


def _below(conditions: Sequence[tuple[Field, Kind]], drawn: Html) -> Html:
    """Return a target below the first rows of its conditions, each under its name."""
    above = []
    for field, kind in conditions:
        found = kind.card(field.first(BESIDE), f"input: {field.name}")
        if found is not None:
            above.append(tag("div", tag("h4", f"{field.name} (input)"), found, class_="element"))
    return tag("div", above, tag("div", drawn, class_="element")) if above else drawn


def _card(
    field: Field, kind: Kind, alt: str, scale_with: Field | None, captions: Sequence[str] | None
) -> Html | None:
    """Draw one target; only the rows that have a caption if there are captions."""
    some = field if captions is None else field.first(len(captions))
    return kind.card(some, alt, scale_with, captions)


def _beside(conditions: Sequence[tuple[Field, Kind]], target: Field, kind: Kind, alt: str) -> Html | None:
    """Draw the first rows as input and output side by side; None without an input that can be drawn so."""
    columns: list[tuple[str, list[Html]]] = []
    for field, own in [*conditions, (target, kind)]:
        tiles = own.tiles(field.first(BESIDE), f"{field.name} of {alt}")
        if tiles is not None:
            columns.append((field.name, tiles))
    if len(columns) < 2 or columns[-1][0] != target.name:
        return None
    heads = [name for name, _ in columns]
    figures = [_row(tiles, heads) for tiles in zip(*(tiles for _, tiles in columns), strict=True)]
    return tag("div", figures, class_="beside")


def _row(tiles: Sequence[Html], heads: Sequence[str]) -> Html:
    """Draw the tiles of one row next to each other, each above the name of its element."""
    named = [
        tag("div", tile, tag("small", ("→ " if n else "") + head))
        for n, (tile, head) in enumerate(zip(tiles, heads, strict=True))
    ]
    return tag("figure", named)


def _path(spec: Spec, saved: Path, name: str, kind: Kind) -> Path:
    """Return the file that `kinds.save_rows` wrote for a target."""
    alone = len(kinds.shown(spec, spec.targets)) + len(given(spec)) == 1
    return kinds.path_of(saved, name, alone).with_suffix(kind.SUFFIX)


def latest(run: Run, name: str) -> Html | None:
    """Return the last picture of a target that training saved, large, for a run without samples."""
    found = run.pictures(name)
    return embedded.show(found[-1][1], f"{run.label} at step {found[-1][0]}") if found else None


def film(run: Run, name: str, most: int = 4) -> Html | None:
    """Return evenly chosen pictures of a target from training, the first and the last among them."""
    found = run.pictures(name)
    if len(found) < 2:
        return None
    return tag("div", [_frame(run, *found[i]) for i in _spread(len(found), most)], class_="steps")


def animation(run: Run, name: str, most: int = 24) -> Html | None:
    """Return the pictures of a target from training as an animation; None below three of them."""
    found = run.pictures(name)
    if len(found) < 3:
        return None
    places = _spread(len(found), most)
    steps = [found[i][0] for i in places]
    said = f"{len(steps)} pictures, from step {_grouped(steps[0])} to step {_grouped(steps[-1])}"
    drawn = embedded.animation([found[i][1] for i in places], f"{run.label}: {said}")
    return tag("figure", drawn, tag("figcaption", said)) if drawn else None


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` places, evenly chosen, the first and the last among them."""
    chosen = min(most, count)
    return sorted({round(i * (count - 1) / (chosen - 1)) for i in range(chosen)})


def _grouped(step: int) -> str:
    return f"{step:,}".replace(",", " ")


def _frame(run: Run, step: int, path: Path) -> Html:
    drawn = embedded.show(path, f"{run.label} at step {step}")
    missing = tag("p", "unreadable", class_="none")
    return tag("figure", drawn or missing, tag("figcaption", f"step {_grouped(step)}"))


def pairs(run: Run, most: int = PAIRS) -> Html | None:
    """Draw the samples that lie nearest to a training row beside it, with their distance; nearest first."""
    import numpy as np

    found = run.neighbours
    if not found or not {"element", "sample", "neighbour", "distance"} <= found.keys():
        return None
    name = str(found["element"])
    kind = kinds.of(run.spec[name]) if name in run.spec else None
    if kind is None or not len(found["sample"]):
        return None
    distance = found["distance"].reshape(len(found["sample"]), -1)[:, 0]
    order = np.argsort(distance, kind="stable")[:most]
    sample = _tiles(run.spec, kind, name, found["sample"][order], "sample")
    near = _tiles(run.spec, kind, name, found["neighbour"][order], "its nearest training row")
    if sample is None or near is None:
        return None
    figures = [
        tag("figure", a, b, tag("figcaption", f"{d:#.3g}"))
        for a, b, d in zip(sample, near, distance[order], strict=True)
    ]
    return tag("div", figures, class_="pairs")


def _tiles(spec: Spec, kind: Kind, name: str, values: Any, alt: str) -> list[Html] | None:
    return kind.tiles(Field(name, spec[name], {name: values}, special=spec.special), alt)
