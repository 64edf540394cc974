"""Show and save pieces of music, whatever the form of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genjax.kinds import _pixels
from genjax.markup import Html, tag
from genjax.music import notes
from genjax.music import save as music
from genjax.music.save import Piece

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 3
"""Pieces on a card."""
PREVIEWED = 12


def describe(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Return how many notes sound at once, and between which pitches."""
    pitches = [n.pitch for p in pieces for n in p.notes] or [0]
    sounding = sum(n.end - n.start for p in pieces for n in p.notes) / max(sum(p.steps for p in pieces), 1)
    between = f"{notes.name(min(pitches))} to {notes.name(max(pitches))}"
    return [("music", f"{sounding:.2f} notes at once on average, from {between}")]


def preview(pieces: Sequence[Piece]) -> Image.Image:
    """Draw the piano rolls of the first pieces."""
    return music.sheet(pieces[:PREVIEWED])


def save(pieces: Sequence[Piece], path: Path, columns: int) -> Path:
    """Write a picture, a MIDI file and a sound file of the first pieces; return the picture."""
    return music.save(pieces, path, columns=max(1, min(columns, 3)))


def card(pieces: Sequence[Piece], alt: str, captions: Sequence[str] | None = None) -> Html | None:
    """Draw the first pieces below each other, each above its caption; None without a piece."""
    drawn = [_drawn(piece, alt) for piece in pieces[:SHOWN]]
    texts = [None] * len(drawn) if captions is None else captions
    figures = [
        tag("figure", piece, None if text is None else tag("figcaption", text))
        for piece, text in zip(drawn, texts, strict=False)
    ]
    return tag("div", figures, class_="pieces") if figures else None


def tiles(pieces: Sequence[Piece], alt: str) -> list[Html]:
    """Draw each piece by itself."""
    return [_drawn(piece, f"{alt}, {n}") for n, piece in enumerate(pieces)]


def _drawn(piece: Piece, alt: str) -> Html:
    return _pixels.picture_tag(music.sheet([piece], 1), alt, class_="plain")
