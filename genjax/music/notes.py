"""Convert between pitches, voices, piano rolls and notes.

Pitches are MIDI numbers (60 is middle C); time is counted in steps.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

REST = -1
"""The pitch of a silent voice."""
KEYS = 88
"""Keys of a piano, and columns of a piano roll."""
LOWEST_KEY = 21
"""The MIDI number of the first of a piano's 88 keys (A0)."""
CENTRES = (71, 65, 60, 52)
"""Typical pitches of soprano, alto, tenor and bass in four-part chorales."""
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_NAME = re.compile(r"([A-Ga-g])([#b]?)(-?\d+)")


class Note(NamedTuple):
    """Hold a tone from step `start` up to step `end`; `voice` counts from the highest (0)."""

    start: int
    end: int
    pitch: int
    voice: int


def name(pitch: int) -> str:
    """Return the name of a pitch: 60 is C4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def pitch(name: str) -> int:
    """Return the pitch of a name, with sharps (#) and flats (b): C4 is 60.

    Raises:
      ValueError: it is not the name of a pitch.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise ValueError(f"{name!r} is not a pitch such as C4, F#3 or Bb2")
    letter, sign, octave = match.groups()
    return NAMES.index(letter.upper()) + (sign == "#") - (sign == "b") + 12 * (int(octave) + 1)


def assign(pitches: Sequence[int], near: Sequence[int] = CENTRES) -> list[int]:
    """Return the voice of each pitch (given from high to low); len(near) if no voice is left.

    The order of the voices is kept, and the sum of the distances to their earlier pitches is the smallest.

    Args:
      pitches: of notes that sound together.
      near: the earlier pitch of each voice.
    """
    voices = len(near)
    if len(pitches) >= voices:
        return [*range(voices), *[voices] * (len(pitches) - voices)]
    choices = itertools.combinations(range(voices), len(pitches))
    return list(min(choices, key=lambda c: sum(abs(p - near[v]) for p, v in zip(pitches, c, strict=True))))


def voices_of_frames(frames: Iterable[Sequence[float]]) -> np.ndarray:
    """Return frames of up to four pitches as (steps, 4) int16, with REST for a silent voice.

    A frame of four holds the pitch of each voice, in order (NaN is a rest). A shorter one leaves out the
    silent voices: its notes are given to the voices whose pitches were nearest (`assign`).
    """
    frames = list(frames)
    out = np.full((len(frames), 4), REST, np.int16)
    near: list[int] = list(CENTRES)
    for row, frame in zip(out, frames, strict=True):
        if len(frame) == 4:
            row[:] = [REST if p != p else int(p) for p in frame]
        else:
            pitches = [int(p) for p in frame if p == p]
            row[assign(pitches, near)] = pitches
        near = [n if p == REST else int(p) for p, n in zip(row, near, strict=True)]
    return out


def notes_of_voices(voices: np.ndarray) -> list[Note]:
    """Return the notes of (steps, voices) pitches; equal neighbours are one note."""
    out = []
    for v, line in enumerate(np.asarray(voices).T):
        edges = np.flatnonzero(np.diff(line)) + 1
        bounds = [0, *edges.tolist(), len(line)]
        out += [
            Note(a, b, int(line[a]), v) for a, b in itertools.pairwise(bounds) if b > a and line[a] != REST
        ]
    return sorted(out)


def notes_of_roll(roll: np.ndarray) -> list[Note]:
    """Return the notes of a piano roll (steps, 88).

    Of four notes that sound together the highest is the soprano's, and so on; of fewer, a note belongs to
    the voice that is nearest when it begins (`assign`).
    """
    roll = np.asarray(roll) > 0
    near = _centres(roll)
    held: dict[int, tuple[int, int]] = {}  # pitch -> (start, voice)
    out: list[Note] = []
    # A silent frame at the end closes the notes that are still held.
    for t, frame in enumerate([*roll, np.zeros(roll.shape[1], bool)]):
        pitches = [int(k) + LOWEST_KEY for k in np.flatnonzero(frame)[::-1]]
        for p in [p for p in held if p not in pitches]:
            start, voice = held.pop(p)
            out.append(Note(start, t, p, voice))
        for p, v in zip(pitches, assign(pitches, near), strict=True):
            held.setdefault(p, (t, v))
            if v < len(near):
                near[v] = p
    return sorted(out)


def _centres(roll: np.ndarray) -> list[int]:
    """Return the median pitch of each voice in the frames where all four sound, or the typical ones."""
    full = roll[roll.sum(1) == len(CENTRES)]
    if not len(full):
        return list(CENTRES)
    # Each full frame has four keys in ascending order: reversed, they are soprano to bass.
    keys = np.nonzero(full)[1].reshape(-1, len(CENTRES))
    return [int(key) + LOWEST_KEY for key in np.median(keys, axis=0)[::-1]]


def roll_of_voices(voices: np.ndarray) -> np.ndarray:
    """Return (steps, voices) pitches as a roll (steps, 88) uint8, without pitches that a piano lacks."""
    out = np.zeros((len(voices), KEYS), np.uint8)
    step, voice = np.nonzero(np.asarray(voices) != REST)
    key = np.asarray(voices)[step, voice].astype(int) - LOWEST_KEY
    fits = (key >= 0) & (key < KEYS)
    out[step[fits], key[fits]] = 1
    return out


def roll_of_notes(notes: Iterable[Note], steps: int) -> tuple[np.ndarray, int]:
    """Return (roll (steps or more, 88) uint8, number of notes left out because a piano lacks their pitch).

    A note lasts at least one step. Equal pitches that overlap or follow each other at once become one note.
    """
    kept = []
    lost = 0
    for note in notes:
        inside = 0 <= note.pitch - LOWEST_KEY < KEYS
        lost += not inside
        if inside:
            kept.append(note._replace(end=max(note.end, note.start + 1)))
    out = np.zeros((max([steps, *(n.end for n in kept)]), KEYS), np.uint8)
    for note in kept:
        out[note.start : note.end, note.pitch - LOWEST_KEY] = 1
    return out, lost
