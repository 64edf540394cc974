"""Represent music in four voices: each step has one token for soprano, alto, tenor and bass, in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers._interface import Options, Tokenizer
from genjax.errors import DataError
from genjax.music import notes

VOICES = 4
SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "rest": 3}
_SILENT = "-"


class Chords(Tokenizer):
    """Represent a piece as bos, four tokens for each step, and eos; a token is a MIDI pitch or a rest.

    As text, a step lists its notes from the highest to the lowest voice: C5/G4/E4/C3, with - for a rest.

    Args:
      lowest, highest: the range of MIDI numbers that have a token, both included.
    """

    kind: ClassVar[str] = "chords"

    def __init__(self, lowest: int = 36, highest: int = 81):
        self.lowest = lowest
        self.highest = highest

    @property
    def vocabulary(self) -> int:
        return len(SPECIAL) + self.highest - self.lowest + 1

    @property
    def special(self) -> Mapping[str, int]:
        return SPECIAL

    def piece(self, voices: np.ndarray) -> np.ndarray:
        """Return the tokens of (steps, 4) pitches (REST where silent): bos, 4 * steps tokens, eos.

        Raises:
          DataError: a pitch outside of the range of the tokenizer.
        """
        flat = np.asarray(voices).reshape(-1).astype(np.int32)
        sounding = flat[flat != notes.REST]
        if sounding.size and (sounding.min() < self.lowest or sounding.max() > self.highest):
            raise DataError(
                f"pitches from {sounding.min()} to {sounding.max()} are not within the range of this "
                f"tokenizer, {self.lowest} to {self.highest}",
                "transpose the music, or include it in the training data",
            )
        tokens = np.where(flat == notes.REST, SPECIAL["rest"], flat - self.lowest + len(SPECIAL))
        return np.concatenate([[SPECIAL["bos"]], tokens, [SPECIAL["eos"]]]).astype(np.int32)

    def voices(self, tokens: Iterable[int]) -> np.ndarray:
        """Return the (steps, 4) pitches of a row of tokens up to the first eos or pad.

        This is the inverse of `piece`. A row that continues a piece begins with the last token of the
        previous row, which belongs to none of its own steps: the first of 4n + 1 tokens is left out, as is a
        leading bos. Voices that are missing in an incomplete last step are silent.
        """
        row = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens), np.int32)
        if row.size and (row[0] == SPECIAL["bos"] or len(row) % VOICES == 1):
            row = row[1:]
        ends = np.flatnonzero((row == SPECIAL["eos"]) | (row == SPECIAL["pad"]))
        row = row[: ends[0]] if ends.size else row
        row = np.append(row, np.full(-len(row) % VOICES, SPECIAL["rest"], np.int32))
        pitches = np.where(row < len(SPECIAL), notes.REST, row - len(SPECIAL) + self.lowest)
        return pitches.reshape(-1, VOICES).astype(np.int16)

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of notes in the form that `decode` writes, separated by white space, / or |.

        Raises:
          DataError: a word that is not a note, or a note outside of the range of the tokenizer.
        """
        try:
            words = [w for w in re.split(r"[\s/|]+", text) if w]
            pitches = [notes.REST if w == _SILENT else notes.pitch(w) for w in words]
        except ValueError as error:
            raise DataError(str(error), "write notes such as C5/G4/E4/C3, and - for a rest") from error
        return self.piece(np.array(pitches))[1:-1]

    def decode(self, tokens: Iterable[int]) -> str:
        steps = self.voices(tokens)
        return " ".join("/".join(_SILENT if p == notes.REST else notes.name(p) for p in s) for s in steps)

    def token_bytes(self) -> list[bytes]:
        """Return the name of each note and a space; special tokens other than the rest add nothing."""
        pitches = [notes.name(p).encode() + b" " for p in range(self.lowest, self.highest + 1)]
        return [b"", b"", b"", _SILENT.encode() + b" ", *pitches]

    @property
    def spaces(self) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "lowest": self.lowest, "highest": self.highest}


def fit(text: str, options: Options, also: str = "") -> Chords:
    """Return the tokenizer for the range of the notes in both texts."""
    words = re.split(r"[\s/|]+", text + " " + also)
    pitches = [notes.pitch(w) for w in words if w and w != _SILENT]
    return Chords(min(pitches, default=60), max(pitches, default=60))


def from_json(data: Mapping[str, Any]) -> Chords:
    """Return the tokenizer that `to_json` turned into `data`."""
    return Chords(data["lowest"], data["highest"])
