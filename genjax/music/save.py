"""Rows of music, real or drawn by a model, as files that a person can look at and hear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from genjax.music import midi, picture, sound
from genjax.music.notes import Note, notes_of_roll, notes_of_voices

if TYPE_CHECKING:
    from PIL import Image


class Voiced(Protocol):
    """A tokenizer of voices: genjax.data.tokenizers.chords.Chords."""

    def voices(self, tokens: Iterable[int]) -> np.ndarray:
        """(steps, 4) pitches, -1 where silent."""
        ...


class Piece(NamedTuple):
    """Notes over `steps` steps, `per_quarter` of them to a quarter note."""

    notes: list[Note]
    steps: int
    per_quarter: int


def is_music(rows: Mapping[str, Any], tokenizer: Any = None) -> bool:
    """Whether rows hold music: a `roll`, or `tokens` of a tokenizer that has voices."""
    return "roll" in rows or ("tokens" in rows and hasattr(tokenizer, "voices"))


def pieces(rows: Mapping[str, np.ndarray], tokenizer: Voiced | None = None) -> list[Piece]:
    """The music in rows: a piece each, up to its padding; in packed rows a piece for each document.

    Args:
      rows: `roll` (N, L, 88), a frame a quarter note, with `token_mask` where there is padding; or `tokens`
        (N, L) of the tokenizer, a step a sixteenth note, with `segment` where rows are packed.

    Raises:
      ValueError: they hold no music.
    """
    if not is_music(rows, tokenizer):
        raise ValueError(f"no music among {sorted(rows)}")
    if "roll" in rows:
        rolls = np.asarray(rows["roll"])
        mask = rows.get("token_mask", np.ones((len(rolls), rolls.shape[1] - 1)))
        steps = 1 + np.asarray(mask).astype(bool).sum(1)
        return [Piece(notes_of_roll(r[:n]), int(n), 1) for r, n in zip(rolls, steps, strict=True)]
    assert tokenizer is not None
    out = []
    for i, row in enumerate(np.asarray(rows["tokens"])):
        segment = np.asarray(rows["segment"])[i] if "segment" in rows else np.ones(len(row), int)
        for n in sorted(set(segment[segment > 0].tolist())):
            voices = tokenizer.voices(row[segment == n])
            out.append(Piece(notes_of_voices(voices), len(voices), 4))
    return out


def roll_picture(
    rows: Mapping[str, np.ndarray], tokenizer: Voiced | None = None, columns: int = 2
) -> Image.Image:
    """All pieces of rows as piano rolls in a grid, bars of four quarters."""
    found = pieces(rows, tokenizer)
    return picture.sheet(
        [(p.notes, p.steps) for p in found], per_bar=4 * found[0].per_quarter, columns=columns
    )


def save_music(
    rows: Mapping[str, np.ndarray],
    tokenizer: Voiced | None,
    path: Path,
    *,
    columns: int = 2,
    shown: int = 12,
    heard: int = 4,
    tempo: float = 80.0,
) -> Path:
    """Writes path.png with the piano rolls of the first `shown` pieces, and path.mid and path.wav with the
    first `heard` of them one behind the other, a bar of silence between two.

    Args:
      rows, tokenizer: see `pieces`.
      tempo: quarter notes a minute.

    Returns:
      path.png.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found = pieces(rows, tokenizer)
    per_quarter = found[0].per_quarter
    seen = [(p.notes, p.steps) for p in found[:shown]]
    drawn = picture.sheet(seen, per_bar=4 * per_quarter, columns=columns)
    drawn.save(path.with_suffix(".png"))
    notes, steps = medley(found[:heard])
    score = midi.write(path.with_suffix(".mid"), notes, steps, per_quarter=per_quarter, tempo=tempo)
    sound.write(path.with_suffix(".wav"), score, notes, steps, per_quarter=per_quarter, tempo=tempo)
    return path.with_suffix(".png")


def medley(found: list[Piece]) -> tuple[list[Note], int]:
    """Pieces one behind the other, a bar of silence between two: (notes, steps)."""
    out, at = [], 0
    for i, piece in enumerate(found):
        at += 4 * piece.per_quarter if i else 0
        out += [n._replace(start=n.start + at, end=n.end + at) for n in piece.notes]
        at += piece.steps
    return out, at
