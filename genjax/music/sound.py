"""Synthesise music: with a synthesiser of the system if there is one, else with a small one of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genjax import files
from genjax.music.notes import Note

RATE = 22050
"""Samples a second of our own synthesiser."""
HARMONICS = np.array([1.0, 0.55, 0.38, 0.18, 0.14, 0.08, 0.06, 0.04])
"""Amplitudes of the fundamental and its overtones: an organ pipe."""
ATTACK = 0.03
"""Seconds in which a note fades in."""
RELEASE = 0.12
"""Seconds in which a note fades out after its end."""
ECHOES = ((0.031, 0.22), (0.047, 0.17), (0.083, 0.12), (0.131, 0.08))
"""(delay in seconds, gain) of the reflections of a small hall."""
FONTS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")
"""Folders that are searched for a sound font."""


def write(
    path: Path,
    midi: Path | None,
    notes: Sequence[Note],
    steps: int,
    *,
    per_quarter: int = 4,
    tempo: float = 80.0,
) -> Path:
    """Write a WAV file of a piece; return its path.

    Args:
      path: of the file; its folder is created.
      midi: the same piece as a MIDI file, for fluidsynth (with a sound font: SOUNDFONT names one) or
        timidity; None for our own synthesiser.
      notes: in any order.
      steps: length of the piece.
      per_quarter: steps of a quarter note.
      tempo: quarter notes a minute.
    """
    with files.replacing(path) as partial:
        if midi is None or not _system(partial, midi):
            _save(partial, synthesise(notes, steps, 60.0 / tempo / per_quarter))
    return path


def _save(path: Path, sound: np.ndarray) -> None:
    """Write sound (samples, 2) in [-1, 1] as 16-bit stereo."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())


def synthesise(notes: Sequence[Note], steps: int, seconds: float) -> np.ndarray:
    """Return a piece as sound (samples, 2) in [-0.9, 0.9]: an organ, the voices from left to right.

    Args:
      notes: in any order.
      steps: length of the piece.
      seconds: of a step.
    """
    total = int((steps * seconds + 1.0) * RATE)
    out = np.zeros((total, 2))
    for note in notes:
        tone = _tone(note, seconds)
        first = int(note.start * seconds * RATE)
        here = slice(first, min(first + len(tone), total))
        # 0.5 is the middle: the highest voice is to the left of it, the lowest to the right.
        side = 0.5 + 0.12 * (min(note.voice, 4) - 1.5)
        out[here] += tone[: here.stop - first, None] * np.array([1 - side, side])
    for delay, gain in ECHOES:
        late = int(delay * RATE)
        # A reflection comes from the other side.
        out[late:] += gain * out[:-late, ::-1]
    return 0.9 * out / max(np.abs(out).max(), 1e-9)


def _tone(note: Note, seconds: float) -> np.ndarray:
    """Return one note as sound (samples); `seconds` is the length of a step."""
    length = int(((note.end - note.start) * seconds + RELEASE) * RATE)
    t = np.arange(length) / RATE
    # Equal temperament: A4 (pitch 69) is 440 Hz, an octave is 12 pitches.
    frequency = 440.0 * 2 ** ((note.pitch - 69) / 12)
    partials = np.arange(1, len(HARMONICS) + 1)
    # Overtones above half the sampling rate would be aliased.
    audible = partials * frequency < RATE / 2
    waves = HARMONICS[audible, None] * np.sin(2 * np.pi * frequency * partials[audible, None] * t)
    fade = np.minimum(t / ATTACK, 1) * np.clip((length / RATE - t) / RELEASE, 0, 1)
    return waves.sum(0) * fade


def _system(path: Path, midi: Path) -> bool:
    """Write the file with a synthesiser of the system; return False if there is none that succeeds."""
    for command in _commands(path, midi):
        done = subprocess.run(command, capture_output=True, check=False)
        # A WAV file has a header of 44 bytes.
        if done.returncode == 0 and path.exists() and path.stat().st_size > 44:
            return True
    return False


def _commands(path: Path, midi: Path) -> list[list[str]]:
    """Return the commands of the synthesisers that are installed."""
    found = (str(f) for folder in FONTS for f in sorted(Path(folder).glob("*.sf[23]")))
    font = os.environ.get("SOUNDFONT") or next(found, None)
    commands = []
    fluidsynth = shutil.which("fluidsynth")
    if font and fluidsynth:
        commands.append([fluidsynth, "-ni", "-g", "0.6", "-r", "44100", "-F", str(path), font, str(midi)])
    timidity = shutil.which("timidity")
    if timidity:
        commands.append([timidity, str(midi), "-Ow", "-o", str(path)])
    return commands
