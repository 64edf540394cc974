"""The comparison as one picture for a README: real data, each family's samples, and a few key numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genjax.errors import DataError
from genjax.evaluation.scores import Score
from genjax.report import grids, pictures, runs, sections
from genjax.report.tables import FLOOR, Column, columns, find, number, spread

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

INK, SOFT, PAPER, MAT, RULE = "#1a1b1e", "#73757c", "#fbfaf6", 18, "#d9d6cc"
TILE, GAP, PAD, LINE, NAMES, FACT = 72, 8, 48, 100, 250, 250


def write_figure(directory: str | Path, path: str | Path) -> Path:
    """Writes a PNG of the comparison: one row of real data, then one for each family that has samples.

    Args:
      directory: a comparison, finished or not.
      path: the picture to write.

    Raises:
      DataError: a file that cannot be read, or no samples at all.
      ProtocolError: two scores of one column were measured differently.
    """
    comparison = runs.comparison(directory)
    found = columns(comparison)
    rows = [("Real data", str(comparison.about.get("dataset") or ""), comparison.real, FLOOR)]
    rows += [(r.label, "", r.samples, r.name) for r in comparison.entries]
    drawn = [row for row in rows if pictures.rows_of(row[2])]
    if not drawn:
        raise DataError(f"{comparison.directory} has no samples to draw", "let a run finish its sampling")
    shown = [c for c in (sections.realism(found), _control(found)) if c is not None]
    picture = _draw(comparison.levels, drawn, shown)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    picture.save(partial, format="PNG", optimize=True)
    partial.replace(path)
    return path


def _control(found: Sequence[Column]) -> Column | None:
    return next((c for c in found if c.criterion == "controllability"), None) or find(found, "recall")


def _draw(levels: int, rows: Sequence[tuple[str, str, Any, str]], shown: Sequence[Column]) -> Image.Image:
    from PIL import Image, ImageDraw

    strips = [_strip(samples, levels) for _, _, samples, _ in rows]
    wide = max(s.width for s in strips)
    left = PAD + NAMES
    size = (left + wide + FACT * len(shown) + PAD, PAD + 44 + LINE * len(rows) + 16 + PAD // 2)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    for n, column in enumerate(shown):
        right = left + wide + FACT * (n + 1)
        _text(pen, (right, PAD), f"{column.label} {column.arrow}", 19, SOFT, "ra")
    y = PAD + 44
    for place, ((name, beside, _, row), strip) in enumerate(zip(rows, strips, strict=True)):
        middle = y + strip.height // 2
        _text(pen, (PAD, middle - (13 if beside else 0)), name, 27, INK, "lm", bold=True)
        _text(pen, (PAD, middle + 18), beside, 19, SOFT, "lm")
        canvas.paste(strip, (left, y))
        for n, column in enumerate(shown):
            _fact(pen, (left + wide + FACT * (n + 1), middle), column, column.cells.get(row), row)
        y += LINE
        if place == 0 and row == FLOOR:
            pen.line((PAD, y, size[0] - PAD, y), fill=RULE, width=2)
            y += 16
    return canvas


def _strip(samples: Any, levels: int) -> Image.Image:
    """One row of tiles of the same height whatever the dataset's resolution, on a dark mat."""
    from PIL import Image

    found = pictures.rows_of(samples)
    assert found is not None
    images, labels = found
    images = images[pictures.row(labels, len(images), 10)]
    levels = max(levels, int(images.max()) + 1)
    scale = max(1, TILE // images.shape[1])
    tiles = grids.grid(images, levels, 10, scale, gap=GAP, background=MAT).convert("RGB")
    mat = Image.new("RGB", (tiles.width + 2 * GAP, tiles.height + 2 * GAP), (MAT, MAT, MAT))
    mat.paste(tiles, (GAP, GAP))
    return mat


def _fact(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], column: Column, score: Score | None, row: str
) -> None:
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
    """DejaVu Sans as matplotlib carries it, so that the picture is the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


__all__ = ["write_figure"]
