"""Piano rolls: (frames, 88) binary values, `Element.rate` frames a quarter note (1 if it is unknown).

Padding is 0 in `segment` (frames), or in `token_mask` (frames - 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genjax.kinds import _music
from genjax.kinds._interface import Field, Unit
from genjax.markup import Html
from genjax.music.save import Piece, roll_pieces

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

UNIT = Unit("nats_per_frame", "Nats per frame", "nats", "coherence")
RUNNING = True
SUFFIX = ".png"
PICTURE = True


def pieces(field: Field) -> list[Piece]:
    """Return a piece for each row, up to its padding."""
    return roll_pieces(field.values, _mask(field), round(field.element.rate or 1))


def _mask(field: Field) -> np.ndarray | None:
    """Return 0 where the frame that is predicted is padding; None if nothing says so."""
    segment = field.beside("segment")
    segment = field.rows.get("segment") if segment is None else segment
    if segment is not None:
        return segment[:, 1:] > 0
    mask = field.beside("mask")
    return field.rows.get("token_mask") if mask is None else mask


def describe(field: Field) -> list[tuple[str, str]]:
    """Return how many notes sound at once, and between which pitches."""
    return _music.describe(pieces(field))


def preview(field: Field, captions: Sequence[str] | None = None) -> Image.Image:
    """Draw the first piano rolls."""
    del captions
    return _music.preview(pieces(field))


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write the first pieces as PNG, MIDI and WAV; return the PNG."""
    del captions
    return _music.save(pieces(field), path, columns)


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html | None:
    """Draw the first piano rolls, each above its caption."""
    del scale_with
    return _music.card(pieces(field.first(_music.SHOWN)), alt, captions)


def tiles(field: Field, alt: str) -> list[Html]:
    """Draw each piano roll by itself."""
    return _music.tiles(pieces(field), alt)
