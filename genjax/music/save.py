"""Collect the pieces in rows of music, and write them as files to look at, to edit and to listen to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from genjax import files
from genjax.music import midi, picture, sound
from genjax.music.notes import Note, notes_of_roll, notes_of_voices

if TYPE_CHECKING:
    from PIL import Image

QUARTERS = 4
"""Quarter notes of a bar."""


class Voiced(Protocol):
    """Decode tokens to voices, as genjax.data.tokenizers.chords.Chords does."""

    def voices(self, tokens: Iterable[int]) -> np.ndarray:
        """Return (steps, 4) pitches, -1 where a voice is silent."""
        ...


class Piece(NamedTuple):
    """Hold notes over `steps` steps, `per_quarter` of them to a quarter note."""

    notes: list[Note]
    steps: int
    per_quarter: int


def roll_pieces(rolls: np.ndarray, mask: np.ndarray | None = None, per_quarter: int = 1) -> list[Piece]:
    """Return a piece for each piano roll.

    Args:
      rolls: (N, L, 88).
      mask: (N, L - 1), 0 where the frame that is predicted is padding; the first frame is always music.
      per_quarter: frames of a quarter note.
    """
    rolls = np.asarray(rolls)
    predicted = np.ones((len(rolls), rolls.shape[1] - 1)) if mask is None else np.asarray(mask)
    steps = 1 + predicted.astype(bool).sum(1)
    return [Piece(notes_of_roll(r[:n]), int(n), per_quarter) for r, n in zip(rolls, steps, strict=True)]


def voice_pieces(tokens: np.ndarray, tokenizer: Voiced, segments: np.ndarray | None = None) -> list[Piece]:
    """Return a piece for each row of tokens, a step a sixteenth note, or for each document of packed rows.

    Args:
      tokens: (N, L).
      segments: (N, L), the document of each token from 1 on, 0 for padding.
    """
    tokens = np.asarray(tokens)
    segments = np.ones(tokens.shape, int) if segments is None else np.asarray(segments)
    out = []
    for row, segment in zip(tokens, segments, strict=True):
        for n in np.unique(segment[segment > 0]):
            voices = tokenizer.voices(row[segment == n])
            out.append(Piece(notes_of_voices(voices), len(voices), 4))
    return out


def sheet(pieces: Sequence[Piece], columns: int = 2) -> Image.Image:
    """Draw pieces as piano rolls in a grid, with bars of four quarters.

    Raises:
      ValueError: there is no piece.
    """
    per_bar = QUARTERS * pieces[0].per_quarter if pieces else 1
    return picture.sheet([(p.notes, p.steps) for p in pieces], per_bar=per_bar, columns=columns)


def save(
    pieces: Sequence[Piece],
    path: Path,
    *,
    columns: int = 2,
    shown: int = 12,
    heard: int = 4,
    tempo: float = 80.0,
) -> Path:
    """Write the first pieces as a picture, a MIDI file and a sound file.

    Args:
      path: path.png holds the piano rolls of the first `shown` pieces; path.mid and path.wav hold the
        first `heard` of them in sequence, with a bar of silence between two.
      columns: of the picture.
      tempo: quarter notes a minute.

    Returns:
      path.png.
    """
    drawn = sheet(pieces[:shown], columns)
    with files.replacing(path.with_suffix(".png")) as partial:
        drawn.save(partial, format="PNG")
    notes, steps = medley(pieces[:heard])
    time = {"per_quarter": pieces[0].per_quarter, "tempo": tempo}
    score = midi.write(path.with_suffix(".mid"), notes, steps, **time)
    sound.write(path.with_suffix(".wav"), score, notes, steps, **time)
    return path.with_suffix(".png")


def medley(pieces: Sequence[Piece]) -> tuple[list[Note], int]:
    """Join pieces, with a bar of silence between two: (notes, steps)."""
    out: list[Note] = []
    at = 0
    for i, piece in enumerate(pieces):
        at += QUARTERS * piece.per_quarter if i else 0
        out += [n._replace(start=n.start + at, end=n.end + at) for n in piece.notes]
        at += piece.steps
    return out, at
