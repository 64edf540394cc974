"""Draw piano rolls: four voices in four colours, bars, and the names of pitches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from genjax.music.notes import Note, name

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

INKS = ("#d1495b", "#e6a532", "#2a9d76", "#2f6db5", "#8d8d99")
"""Soprano, alto, tenor, bass, and notes without a voice."""
_PAPER = "#ffffff"
_SHADE = "#f4f4f1"
_LINE = "#ecece8"
_BAR = "#bdbdb6"
_TEXT = "#6d6d68"
_SHARPS = frozenset((1, 3, 6, 8, 10))
_SCALE = 2
"""Pictures are drawn this many times larger and reduced, which smooths their edges."""


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Hold the rectangle in which notes are drawn, in pixels of the enlarged picture."""

    left: float
    top: float
    right: float
    bottom: float
    low: int
    high: int
    steps: int

    @property
    def row(self) -> float:
        """Height of a pitch."""
        return (self.bottom - self.top) / (self.high - self.low + 1)

    @property
    def column(self) -> float:
        """Width of a step."""
        return (self.right - self.left) / max(self.steps, 1)

    def y(self, pitch: int) -> float:
        """Return the upper edge of a pitch."""
        return self.bottom - (pitch - self.low + 1) * self.row

    def x(self, step: int) -> float:
        """Return the left edge of a step."""
        return self.left + step * self.column


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
    """Draw one piano roll: time to the right, pitch upwards, with bar lines and the names of the Cs.

    Args:
      notes: in any order.
      steps: length of the piece.
      per_bar: steps of a bar.
      span: lowest and highest pitch shown; by default those of the notes, and at least two octaves.
      width, height: pixels.
      title: above the roll; may be empty.
    """
    from PIL import Image, ImageDraw

    low, high = span or span_of([notes])
    k = _SCALE
    picture = Image.new("RGB", (width * k, height * k), _PAPER)
    pen = ImageDraw.Draw(picture)
    top = (18 if title else 6) * k
    frame = _Frame(30 * k, top, (width - 6) * k, (height - 6) * k, low, high, steps)
    _ground(pen, frame, per_bar)
    # The soprano is drawn last, over the other voices.
    for note in sorted(notes, key=lambda n: -n.voice):
        _note(pen, frame, note)
    if title:
        pen.text((frame.left, 3 * k), title, fill=_TEXT, font=_font(11 * k))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _ground(pen: ImageDraw.ImageDraw, frame: _Frame, per_bar: int) -> None:
    """Draw the rows of black keys, the lines and names of the Cs, and the bars."""
    for pitch in range(frame.low, frame.high + 1):
        y = frame.y(pitch)
        if pitch % 12 in _SHARPS:
            pen.rectangle((frame.left, y, frame.right, y + frame.row - 1), fill=_SHADE)
        if pitch % 12 == 0:
            below = y + frame.row
            pen.line((frame.left, below, frame.right, below), fill=_BAR if frame.row > 3 else _LINE, width=1)
            _label(pen, (frame.left - 4 * _SCALE, y + frame.row / 2), name(pitch), _SCALE)
    for step in range(0, frame.steps + 1, per_bar):
        pen.line((frame.x(step), frame.top, frame.x(step), frame.bottom), fill=_BAR, width=1)
    pen.rectangle((frame.left, frame.top, frame.right, frame.bottom), outline=_BAR, width=1)


def _note(pen: ImageDraw.ImageDraw, frame: _Frame, note: Note) -> None:
    """Draw a note as a rounded bar with a small gap to the next."""
    gap = min(frame.column * 0.12, 1.5 * _SCALE)
    y = frame.y(note.pitch)
    box = (
        frame.x(note.start) + gap / 2,
        y + frame.row * 0.08,
        frame.x(note.end) - gap,
        y + frame.row * 0.92,
    )
    if box[2] > box[0] and frame.low <= note.pitch <= frame.high:
        ink = INKS[min(note.voice, len(INKS) - 1)]
        pen.rounded_rectangle(box, radius=min(frame.row * 0.4, 3 * _SCALE), fill=ink)


def sheet(
    pieces: Sequence[tuple[Sequence[Note], int]], *, per_bar: int = 16, columns: int = 2
) -> Image.Image:
    """Draw several piano rolls in a grid, all on the same scale of pitch and time.

    Args:
      pieces: (notes, steps) of each.
      columns: of the grid.

    Raises:
      ValueError: there is no piece.
    """
    from PIL import Image

    if not pieces:
        raise ValueError("no piece to draw")
    span = span_of([n for n, _ in pieces])
    longest = max(steps for _, steps in pieces)
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
    """Return the lowest and the highest pitch of pieces: at least two octaves around middle C."""
    pitches = [n.pitch for notes in pieces for n in notes] or [60]
    return min([*pitches, 48]) - 1, max([*pitches, 72]) + 1


def _label(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, scale: int) -> None:
    pen.text(at, text, fill=_TEXT, font=_font(10 * scale), anchor="rm")


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)
