"""Music made audible: by a synthesiser of the system where there is one, else by a small one of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genjax.music.notes import Note

RATE = 22050
"""Samples a second of our own synthesiser."""
_HARMONICS = np.array([1.0, 0.55, 0.38, 0.18, 0.14, 0.08, 0.06, 0.04])
_ATTACK, _RELEASE = 0.03, 0.12  # seconds
_FONTS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")


def write(
    path: Path,
    midi: Path | None,
    notes: Sequence[Note],
    steps: int,
    *,
    per_quarter: int = 4,
    tempo: float = 80.0,
) -> Path:
    """Writes a WAV file of a piece.

    Args:
      midi: the same piece as a MIDI file, for fluidsynth (which needs a sound font: SOUNDFONT names one) or
        timidity; None for our own synthesiser.
      per_quarter, tempo: as in genjax.music.midi.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if midi is not None and _system(path, midi):
        return path
    sound = synthesise(notes, steps, 60.0 / tempo / per_quarter)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(sound * 32767).astype("<i2").tobytes())
    return path


def synthesise(notes: Sequence[Note], steps: int, seconds: float) -> np.ndarray:
    """A piece as (samples, 2) in [-0.9, 0.9]: an organ of harmonics, voices from left to right, a small hall.

    Args:
      seconds: of a step.
    """
    total = int((steps * seconds + 1.0) * RATE)
    out = np.zeros((total, 2))
    for n in notes:
        length = int(((n.end - n.start) * seconds + _RELEASE) * RATE)
        t = np.arange(length) / RATE
        frequency = 440.0 * 2 ** ((n.pitch - 69) / 12)
        partials = np.arange(1, len(_HARMONICS) + 1)
        audible = partials * frequency < RATE / 2
        tone = (_HARMONICS[audible, None] * np.sin(2 * np.pi * frequency * partials[audible, None] * t)).sum(
            0
        )
        fade = np.minimum(t / _ATTACK, 1) * np.clip((length / RATE - t) / _RELEASE, 0, 1)
        side = 0.5 + 0.12 * (min(n.voice, 4) - 1.5)
        first = int(n.start * seconds * RATE)
        here = slice(first, min(first + length, total))
        out[here] += (tone * fade)[: here.stop - first, None] * np.array([1 - side, side])
    for delay, gain in ((0.031, 0.22), (0.047, 0.17), (0.083, 0.12), (0.131, 0.08)):
        late = int(delay * RATE)
        out[late:] += gain * out[:-late, ::-1]
    return 0.9 * out / max(np.abs(out).max(), 1e-9)


def _system(path: Path, midi: Path) -> bool:
    """Whether a synthesiser of the system has written the file."""
    font = os.environ.get("SOUNDFONT") or next(
        (str(f) for d in _FONTS for f in sorted(Path(d).glob("*.sf[23]"))), None
    )
    commands = []
    if font and (program := shutil.which("fluidsynth")):
        commands.append([program, "-ni", "-g", "0.6", "-r", "44100", "-F", str(path), font, str(midi)])
    if program := shutil.which("timidity"):
        commands.append([program, str(midi), "-Ow", "-o", str(path)])
    for command in commands:
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and path.exists() and path.stat().st_size > 44:
            return True
    return False
