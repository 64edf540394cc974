"""Write notes as MIDI files and read them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files
from genjax.music.notes import REST, Note

TICKS = 480
"""Ticks of a quarter note."""
PROGRAM = 19
"""Church organ among the General MIDI instruments (from 0)."""
DRUMS = 9
"""The channel of drums, whose pitches name instruments. MIDI's channel 10, counted from 0."""
VELOCITY = 76
"""Loudness of every note, of at most 127."""


def write(
    path: Path, notes: Sequence[Note], steps: int, *, per_quarter: int = 4, tempo: float = 80.0
) -> Path:
    """Write a MIDI file: a track and a channel for each voice, lasting all `steps`; return the path.

    Args:
      path: of the file; its folder is created.
      notes: in any order.
      steps: length of the piece.
      per_quarter: steps of a quarter note.
      tempo: quarter notes a minute.
    """
    import mido

    step = TICKS // per_quarter
    file = mido.MidiFile(ticks_per_beat=TICKS)
    head = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    head.append(mido.MetaMessage("end_of_track", time=steps * step))
    file.tracks.append(head)
    for voice in sorted({n.voice for n in notes}):
        file.tracks.append(_track([n for n in notes if n.voice == voice], steps, step))
    with files.replacing(path) as partial:
        file.save(partial)
    return path


def _track(notes: Sequence[Note], steps: int, step: int) -> Any:
    """Return the track of one voice, whose notes are given; `step` is in ticks."""
    import mido

    track: Any = mido.MidiTrack()
    voice = notes[0].voice
    channel = voice if voice < DRUMS else voice + 1
    track.append(mido.Message("program_change", channel=channel, program=PROGRAM))
    # A note that ends (0) is sorted before one that begins (1) at the same time.
    events = sorted(
        event for n in notes for event in ((n.end * step, 0, n.pitch), (n.start * step, 1, n.pitch))
    )
    at = 0
    for time, on, pitch in events:
        kind = "note_on" if on else "note_off"
        velocity = VELOCITY if on else 0
        # MIDI times are differences from the message before.
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=time - at))
        at = time
    track.append(mido.MetaMessage("end_of_track", time=steps * step - at))
    return track


def read(path: Path, *, per_quarter: int = 4) -> tuple[list[Note], int]:
    """Return (notes, steps) of a MIDI file; a note's voice is its channel, times are rounded to steps.

    Times are counted in quarter notes: the tempo does not matter. The sustain pedal is not read. A note that
    is never ended lasts until the end of its track.

    Raises:
      ValueError: the file counts time in seconds, or holds independent pieces. mido raises errors of other
        types for a file that is damaged.
    """
    import mido

    file = mido.MidiFile(path)
    if file.type == 2:
        raise ValueError("it holds several independent pieces (MIDI type 2)")
    if file.ticks_per_beat <= 0:
        raise ValueError("it counts time in seconds (SMPTE) and not in quarter notes")
    step = file.ticks_per_beat / per_quarter
    out: list[Note] = []
    last = 0
    for track in file.tracks:
        notes, end = _read_track(track, step)
        out += notes
        last = max(last, end)
    return sorted(out), last


def _read_track(track: Any, step: float) -> tuple[list[Note], int]:
    """Return (notes, steps) of one track; `step` is in ticks."""
    out = []
    at = 0
    sounding: dict[tuple[int, int], int] = {}
    for message in track:
        at += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        key = (message.channel, message.note)
        if key in sounding:
            out.append(Note(round(sounding.pop(key) / step), round(at / step), message.note, key[0]))
        # A note_on without velocity is another way to write note_off.
        if message.type == "note_on" and message.velocity:
            sounding[key] = at
    out += [Note(round(a / step), round(at / step), pitch, c) for (c, pitch), a in sounding.items()]
    return out, round(at / step)


def voices(notes: Sequence[Note], steps: int, count: int = 4) -> np.ndarray:
    """Return (steps, count) pitches, with REST for a silent voice; the inverse of notes_of_voices."""
    out = np.full((steps, count), REST, np.int16)
    for n in notes:
        out[n.start : n.end, n.voice] = n.pitch
    return out
