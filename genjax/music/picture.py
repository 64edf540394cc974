"""Piano rolls drawn: four voices in four colours, bars, and the names of the pitches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genjax.music.notes import Note, name

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

INKS = ("#d1495b", "#e6a532", "#2a9d76", "#2f6db5", "#8d8d99")
"""Soprano, alto, tenor, bass, and what has no voice."""
_PAPER, _SHADE, _LINE, _BAR, _TEXT = "#ffffff", "#f4f4f1", "#ecece8", "#bdbdb6", "#6d6d68"
_SHARPS = frozenset((1, 3, 6, 8, 10))
_SCALE = 2  # drawn so many times larger and reduced: edges come out smooth


def draw(
    notes: Sequence[Note],
    steps: int,
    *,
    per_bar: int = 16,
    span: tuple[int, int] | None = None,
    width: int = 480,
    height: int = 200,
    title: str = "",
) -> Image.Image:
    """One piano roll: time to the right, pitch upwards, bar lines, the names of the Cs.

    Args:
      steps: how long it is.
      per_bar: steps of a bar.
      span: lowest and highest pitch shown; those of the notes (and at least two octaves) where it is None.
      width, height: pixels.
    """
    from PIL import Image, ImageDraw

    low, high = span or span_of([notes])
    k = _SCALE
    picture = Image.new("RGB", (width * k, height * k), _PAPER)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = 30 * k, (18 if title else 6) * k, (width - 6) * k, (height - 6) * k
    row, column = (bottom - top) / (high - low + 1), (right - left) / max(steps, 1)
    y = lambda pitch: bottom - (pitch - low + 1) * row
    for p in range(low, high + 1):
        if p % 12 in _SHARPS:
            pen.rectangle((left, y(p), right, y(p) + row - 1), fill=_SHADE)
        if p % 12 == 0:
            pen.line((left, y(p) + row, right, y(p) + row), fill=_BAR if row > 3 else _LINE, width=1)
            _label(pen, (left - 4 * k, y(p) + row / 2), name(p), k)
    for t in range(0, steps + 1, per_bar):
        pen.line((left + t * column, top, left + t * column, bottom), fill=_BAR, width=1)
    pen.rectangle((left, top, right, bottom), outline=_BAR, width=1)
    for note in sorted(notes, key=lambda n: -n.voice):  # the soprano is never hidden
        gap = min(column * 0.12, 1.5 * k)
        box = (
            left + note.start * column + gap / 2,
            y(note.pitch) + row * 0.08,
            left + note.end * column - gap,
            y(note.pitch) + row * 0.92,
        )
        if box[2] > box[0] and low <= note.pitch <= high:
            pen.rounded_rectangle(
                box, radius=min(row * 0.4, 3 * k), fill=INKS[min(note.voice, len(INKS) - 1)]
            )
    if title:
        pen.text((left, 3 * k), title, fill=_TEXT, font=_font(11 * k))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def sheet(
    pieces: Sequence[tuple[Sequence[Note], int]], *, per_bar: int = 16, columns: int = 2
) -> Image.Image:
    """Several piano rolls in a grid, all to one scale of pitch and time.

    Args:
      pieces: (notes, steps) of each.
      columns: of the grid.

    Raises:
      ValueError: there is none.
    """
    from PIL import Image

    if not pieces:
        raise ValueError("no piece to draw")
    span, longest = span_of([n for n, _ in pieces]), max(steps for _, steps in pieces)
    columns = min(columns, len(pieces))
    width = int(np.clip(46 + 6 * longest, 320, 960))
    height = 26 + 5 * (span[1] - span[0] + 1)
    rows = -(-len(pieces) // columns)
    page = Image.new("RGB", (columns * width, rows * height), _PAPER)
    for i, (notes, _) in enumerate(pieces):
        drawn = draw(
            notes,
            longest,
            per_bar=per_bar,
            span=span,
            width=width,
            height=height,
            title=str(i + 1) if len(pieces) > 1 else "",
        )
        page.paste(drawn, (i % columns * width, i // columns * height))
    return page


def span_of(pieces: Sequence[Sequence[Note]]) -> tuple[int, int]:
    """The lowest and the highest pitch of pieces, two octaves around middle C where there are fewer."""
    pitches = [n.pitch for notes in pieces for n in notes] or [60]
    return min([*pitches, 48]) - 1, max([*pitches, 72]) + 1


def _label(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, scale: int) -> None:
    pen.text(at, text, fill=_TEXT, font=_font(10 * scale), anchor="rm")


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)
