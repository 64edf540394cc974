"""The kind of docs/extending.md: a mono waveform with values in [-1, 1], saved as a WAV file."""

from __future__ import annotations

import wave

import numpy as np

from genjax import files, kinds
from genjax.markup import tag

UNIT = kinds.Unit("nats_per_dim", "Nats per dimension", "nats", "realism")
SUFFIX = ".wav"
RATE = 8000
"""Samples per second."""
SHOWN = 8
"""Waveforms on a card."""


def save(field, path, columns, captions=None):
    """Write the rows one after another into one WAV file."""
    sound = np.clip(np.asarray(field.values), -1, 1).reshape(-1)
    with files.replacing(path.with_suffix(SUFFIX)) as partial, wave.open(str(partial), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((sound * 32767).astype("<i2").tobytes())
    return path.with_suffix(SUFFIX)


def card(field, alt, scale_with=None, captions=None):
    """Draw the first rows as curves, one below the other."""
    rows = np.asarray(field.values)[:SHOWN]
    curves = []
    for n, row in enumerate(rows):
        points = " ".join(f"{x},{2 * n - y:.3f}" for x, y in enumerate(row))
        curves.append(tag("polyline", points=points, fill="none", stroke="currentColor"))
    box = f"0 -1 {rows.shape[1]} {2 * len(rows)}"
    return tag("svg", *curves, viewBox=box, role="img", aria_label=alt)


def raw(field):
    """Return the values (N, D) in which distances between rows are measured."""
    return np.asarray(field.values, np.float32).reshape(len(field.values), -1)
