"""MIDI files of notes, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax.music.notes import REST, Note

TICKS = 480
"""Ticks of a quarter note."""
PROGRAM = 19
"""Church organ, of the General MIDI instruments (from 0)."""


def write(
    path: Path, notes: Sequence[Note], steps: int, *, per_quarter: int = 4, tempo: float = 80.0
) -> Path:
    """Writes a MIDI file: a track and a channel for each voice, lasting all `steps`.

    Args:
      per_quarter: steps of a quarter note.
      tempo: quarter notes a minute.
    """
    import mido

    path.parent.mkdir(parents=True, exist_ok=True)
    step = TICKS // per_quarter
    file = mido.MidiFile(ticks_per_beat=TICKS)
    head = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    head.append(mido.MetaMessage("end_of_track", time=steps * step))
    file.tracks.append(head)
    for voice in sorted({n.voice for n in notes}):
        track: Any = mido.MidiTrack()
        channel = voice if voice < 9 else voice + 1  # channel 10 is drums
        track.append(mido.Message("program_change", channel=channel, program=PROGRAM))
        # A note that ends comes before one that begins at the same time.
        events = sorted(
            e
            for n in notes
            if n.voice == voice
            for e in ((n.end * step, 0, n.pitch), (n.start * step, 1, n.pitch))
        )
        at = 0
        for time, on, pitch in events:
            kind, velocity = ("note_on", 76) if on else ("note_off", 0)
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=time - at))
            at = time
        track.append(mido.MetaMessage("end_of_track", time=steps * step - at))
        file.tracks.append(track)
    file.save(path)
    return path


def read(path: Path, *, per_quarter: int = 4) -> tuple[list[Note], int]:
    """(notes, steps) of a MIDI file; a note's voice is its channel, its times are rounded to steps."""
    import mido

    file = mido.MidiFile(path)
    step, out, last = file.ticks_per_beat / per_quarter, [], 0
    for track in file.tracks:
        at, sounding = 0, {}
        for message in track:
            at += message.time
            if message.type not in ("note_on", "note_off"):
                continue
            key = message.channel, message.note
            if key in sounding:
                out.append(Note(round(sounding.pop(key) / step), round(at / step), message.note, key[0]))
            if message.type == "note_on" and message.velocity:
                sounding[key] = at
        last = max(last, round(at / step))
    return sorted(out), last


def voices(notes: Sequence[Note], steps: int, count: int = 4) -> np.ndarray:
    """Notes as (steps, count) pitches, REST where a voice is silent; the inverse of notes_of_voices."""
    out = np.full((steps, count), REST, np.int16)
    for n in notes:
        out[n.start : n.end, n.voice] = n.pitch
    return out
