"""Music in voices: tokens of a tokenizer with `voices`, a step a sixteenth note; `segment` in packed rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genjax.kinds import _music, tokens
from genjax.kinds._interface import Defaults, Field, Unit
from genjax.markup import Html
from genjax.music.save import Piece, voice_pieces
from genjax.spec import Element

if TYPE_CHECKING:
    from PIL import Image

UNIT = Unit("nats_per_token", "Nats per token", "nats", "coherence")
RUNNING = True
OPTION = "prompt"
SUFFIX = ".png"
PICTURE = True


def pieces(field: Field) -> list[Piece] | None:
    """Return a piece for each row, or for each document of packed rows; None without a tokenizer."""
    if field.tokenizer is None:
        return None
    segments = field.beside("segment")
    segments = field.rows.get("segment") if segments is None else segments
    return voice_pieces(field.values, field.tokenizer, segments)


def describe(field: Field) -> list[tuple[str, str]]:
    """Return how many notes sound at once, and between which pitches."""
    found = pieces(field)
    return _music.describe(found) if found else []


def preview(field: Field, captions: Sequence[str] | None = None) -> Image.Image | None:
    """Draw the first pieces as piano rolls; None without a tokenizer."""
    del captions
    found = pieces(field)
    return _music.preview(found) if found else None


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write the first pieces as PNG, MIDI and WAV and return the PNG; an npz without a tokenizer."""
    found = pieces(field)
    if not found:
        return Defaults.save(field, path, columns, captions)
    return _music.save(found, path, columns)


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html | None:
    """Draw the first pieces as piano rolls; None without a tokenizer."""
    del scale_with, captions
    # Packed rows hold several pieces each: a caption of a row would not belong to one piece.
    found = pieces(field.first(_music.SHOWN))
    return _music.card(found, alt) if found else None


def tiles(field: Field, alt: str) -> list[Html] | None:
    """Draw each piece by itself; None without a tokenizer."""
    found = pieces(field)
    return _music.tiles(found, alt) if found else None


def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
    """Return the notes of a text such as C5/G4/E4/C3 as the beginning of every row."""
    return tokens.parse(given, name, element, num, context)
