"""Make rows of piano rolls, for the sources that read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.pieces import Pieces
from genjax.errors import ConfigError
from genjax.music.notes import KEYS
from genjax.spec import Element


def load(
    config: Config, train: Sequence[np.ndarray], held: Sequence[np.ndarray], info: str, per_quarter: int
) -> Loaded:
    """Return pieces as rows: `roll` (length + 1 frames of 88 keys) and `segment` (see data.pieces).

    Args:
      train, held: the pieces of both parts, (frames, 88) uint8, each of at least 2 frames.
      info: the origin of the data, in words.
      per_quarter: frames of a quarter note.

    Raises:
      ConfigError: a transposition moves a note off the keyboard.
    """
    moved = [transposed(x, k) for x in train for k in keys(config)]
    parts = [Pieces(part, config.length) for part in (moved, held)]
    elements = {
        "roll": Element((config.length + 1, KEYS), "uint8", 2, "roll", "target", float(per_quarter)),
        "segment": Element((config.length + 1,), "int32"),
    }
    content = digest(*(c for p in parts for c in p.contents()))
    return Loaded(elements, parts[0], parts[1], content, info=info + in_keys(config))


def check(config: Config) -> None:
    """Raise ConfigError if the config asks for packed rolls."""
    if config.pack:
        raise ConfigError("piano rolls are not packed", "set data.pack=False or data.name='chorales:voices'")


def keys(config: Config) -> range:
    """Return the transpositions of a training piece, in semitones."""
    return range(-config.transpose, config.transpose + 1)


def in_keys(config: Config) -> str:
    """Return words that say in how many keys training pieces are present, for a description."""
    return f", each in {len(keys(config))} keys" if config.transpose else ""


def transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """Return a roll (frames, 88) transposed by some semitones.

    Raises:
      ConfigError: a note would leave the keyboard.
    """
    moved = np.roll(roll, semitones, axis=1)
    # np.roll wraps: notes that leave one end of the keyboard appear at the other.
    wrapped = moved[:, :semitones] if semitones > 0 else moved[:, KEYS + semitones :]
    if semitones and wrapped.any():
        raise ConfigError(f"data.transpose moves a note off the {KEYS} keys", "use a smaller data.transpose")
    return moved
