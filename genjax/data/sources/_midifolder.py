"""Read a folder of MIDI files as piano rolls."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genjax.data.listing import below
from genjax.data.progress import progress
from genjax.data.sources._rollfiles import WHOLE, Rolls
from genjax.errors import DataError
from genjax.music import midi, notes

SUFFIXES = (".mid", ".midi")
FOLDERS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
"""Names of subfolders that are parts."""
MOST = 1_000_000
"""Frames of a piece. A longer one comes from a damaged time in the file, and would fill the memory."""


def read_folder(folder: Path, per_quarter: int) -> tuple[Rolls, int]:
    """Return ({part: pieces}, number of notes left out because a piano lacks their pitch).

    Files are read in the order of their paths. Subfolders train, valid and test are parts; without
    them, WHOLE is the only part.

    Args:
      per_quarter: frames of a quarter note.

    Raises:
      DataError: no MIDI file, files outside of the parts, or a file that cannot be read; names the file.
    """
    files = below(folder, SUFFIXES)
    if not files:
        raise DataError(f"no .mid or .midi file in {folder}", "name a folder of MIDI files")
    parts = _parts(folder, files)
    rolls: Rolls = {}
    lost = 0
    for part, file in progress(parts, len(parts), "reading MIDI files"):
        roll, missing = read(file, per_quarter)
        rolls.setdefault(part, []).append(roll)
        lost += missing
    return rolls, lost


def _parts(folder: Path, files: list[Path]) -> list[tuple[str, Path]]:
    """Return (part, file) for each file."""
    top = [file.relative_to(folder).parts[0] if file.parent != folder else "" for file in files]
    present = {name for name in top if name in FOLDERS}
    if not present:
        return [(WHOLE, file) for file in files]
    if "train" not in present:
        raise DataError(f"{folder} has {', '.join(sorted(present))} and no train", "add the folder train")
    if len({FOLDERS[name] for name in present}) < len(present):
        raise DataError(f"{folder} has a part twice: {', '.join(sorted(present))}", "keep one of them")
    outside = [file for name, file in zip(top, files, strict=True) if name not in FOLDERS]
    if outside:
        raise DataError(
            f"{outside[0]} is outside of the parts {', '.join(sorted(present))}", "move it into one of them"
        )
    return [(FOLDERS[name], file) for name, file in zip(top, files, strict=True)]


def read(file: Path, per_quarter: int) -> tuple[np.ndarray, int]:
    """Return (roll (frames, 88) uint8, notes left out because a piano lacks their pitch) of a MIDI file.

    Drums are left out.

    Raises:
      DataError: the file cannot be read, has no note, or is too short or too long.
    """
    try:
        found, steps = midi.read(file, per_quarter=per_quarter)
    except Exception as error:  # mido raises errors of many types
        raise DataError(
            f"{file} cannot be read as a MIDI file: {type(error).__name__}: {error}",
            "remove it, or export it again",
        ) from error
    if steps > MOST:
        raise DataError(
            f"{file} lasts {steps:,} frames, more than {MOST:,}", "remove it: a time in it is wrong"
        )
    roll, lost = notes.roll_of_notes((n for n in found if n.voice != midi.DRUMS), steps)
    if not roll.any():
        raise DataError(f"{file} has no note on the {notes.KEYS} keys of a piano", "remove it")
    if len(roll) < 2:
        raise DataError(
            f"{file} has {len(roll)} frame at {per_quarter} a quarter note",
            "remove it, or raise data.per_quarter",
        )
    return roll, lost
