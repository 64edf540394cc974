"""Draw a comparison as one picture for a README: real data, each family's samples, and key numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genjax import files, kinds
from genjax.errors import DataError
from genjax.evaluation.scores import Score
from genjax.report import runs
from genjax.report.pictures import Rows
from genjax.report.tables import FLOOR, Column, columns, find, number, quality, spread
from genjax.spec import Spec

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

INK = "#1a1b1e"
SOFT = "#73757c"
PAPER = "#fbfaf6"
RULE = "#d9d6cc"
COUNT = 10
"""Samples in a line."""
TILE = 72
"""Height of a sample in pixels, about."""
PAD = 48
HEAD = 44
LINE = 100
NAMES = 250
FACT = 250


class Row(NamedTuple):
    """Hold one line of the figure.

    Attributes:
      row: its key in the columns of scores.
      name: what is written in front of it.
      beside: a smaller line below the name.
      strip: its samples.
    """

    row: str
    name: str
    beside: str
    strip: Image.Image


def write_figure(directory: str | Path, path: str | Path) -> Path:
    """Write a PNG of the comparison: a line of real data, then one for each family that has samples.

    Args:
      directory: a comparison, finished or not.
      path: the picture to write.

    Raises:
      DataError: a file cannot be read, or there are no samples that can be drawn in a line.
      ProtocolError: two scores of one column were measured differently.
    """
    comparison = runs.comparison(directory)
    found = columns(comparison)
    rows = _rows(comparison)
    if not rows:
        raise DataError(f"{comparison.directory} has no samples to draw", "wait until a run has been sampled")
    shown = [c for c in (quality(found), _control(found)) if c is not None]
    with files.replacing(path) as partial:
        _draw(rows, shown).save(partial, format="PNG", optimize=True)
    return Path(path)


def _rows(comparison: runs.Comparison) -> list[Row]:
    """Return the lines that can be drawn: real data, then each family."""
    dataset = str(comparison.about.get("dataset") or "")
    real = _strip(comparison.spec, comparison.real)
    rows = [] if real is None else [Row(FLOOR, "Real data", dataset, real)]
    for run in comparison.entries:
        strip = _strip(run.spec, run.samples)
        if strip is not None:
            rows.append(Row(run.name, run.label, "", strip))
    return rows


def _strip(spec: Spec, rows: Rows | None) -> Image.Image | None:
    """Return samples of the first target that can be drawn in a line."""
    drawn = (kind.row(field, COUNT, TILE) for field, kind in kinds.fields(spec, rows or {}, spec.targets))
    return next((picture for picture in drawn if picture is not None), None)


def _control(found: Sequence[Column]) -> Column | None:
    return next((c for c in found if c.criterion == "controllability"), None) or find(found, "recall")


def _draw(rows: Sequence[Row], shown: Sequence[Column]) -> Image.Image:
    from PIL import Image, ImageDraw

    wide = max(row.strip.width for row in rows)
    left = PAD + NAMES
    size = (left + wide + FACT * len(shown) + PAD, PAD + HEAD + LINE * len(rows) + 16 + PAD // 2)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    for n, column in enumerate(shown):
        _text(pen, (left + wide + FACT * (n + 1), PAD), f"{column.label} {column.arrow}", 19, SOFT, "ra")
    y = PAD + HEAD
    for place, row in enumerate(rows):
        middle = y + row.strip.height // 2
        _text(pen, (PAD, middle - (13 if row.beside else 0)), row.name, 27, INK, "lm", bold=True)
        _text(pen, (PAD, middle + 18), row.beside, 19, SOFT, "lm")
        canvas.paste(row.strip, (left, y))
        for n, column in enumerate(shown):
            _fact(pen, (left + wide + FACT * (n + 1), middle), column, column.cells.get(row.row), row.row)
        y += LINE
        if place == 0 and row.row == FLOOR:
            pen.line((PAD, y, size[0] - PAD, y), fill=RULE, width=2)
            y += 16
    return canvas


def _fact(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], column: Column, score: Score | None, row: str
) -> None:
    """Write a score with its interval; bold if it is the best."""
    if score is None:
        _text(pen, at, "–", 25, SOFT, "rm")
        return
    best = column.best() == row
    _text(pen, (at[0], at[1] - 12), number(score.value, score.low, score.high), 27, INK, "rm", bold=best)
    _text(pen, (at[0], at[1] + 18), spread(score), 19, SOFT, "rm")


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: str,
    anchor: str,
    bold: bool = False,
) -> None:
    pen.text(at, text, fill=colour, font=_font(size, bold), anchor=anchor)


def _font(size: int, bold: bool) -> Any:
    """Return DejaVu Sans as matplotlib carries it: the picture is the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


__all__ = ["write_figure"]
