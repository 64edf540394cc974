"""Music in four voices as tokens: each step is soprano, alto, tenor, bass, one token a voice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from genjax.data.tokenizers.base import Options, Tokenizer
from genjax.errors import DataError
from genjax.music import notes

VOICES = 4
SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "rest": 3}
_SILENT = "-"


class Chords(Tokenizer):
    """A piece is bos, then four tokens a step, then eos; a token is a MIDI pitch or a rest.

    As text a step is its voices' notes from the highest to the lowest: C5/G4/E4/C3, where - is a rest.

    Args:
      lowest, highest: the MIDI numbers that have a token, both included.
    """

    kind: ClassVar[str] = "chords"

    def __init__(self, lowest: int = 36, highest: int = 81):
        self.lowest, self.highest = lowest, highest

    @property
    def vocabulary(self) -> int:
        return len(SPECIAL) + self.highest - self.lowest + 1

    @property
    def special(self) -> Mapping[str, int]:
        return SPECIAL

    def piece(self, voices: np.ndarray) -> np.ndarray:
        """(steps, 4) pitches, REST where silent, as 1 + 4 * steps + 1 tokens with bos and eos.

        Raises:
          DataError: a pitch outside of the tokenizer's.
        """
        flat = np.asarray(voices).reshape(-1).astype(np.int32)
        sounding = flat[flat != notes.REST]
        if sounding.size and (sounding.min() < self.lowest or sounding.max() > self.highest):
            raise DataError(
                f"pitches from {sounding.min()} to {sounding.max()} are not within this tokenizer's "
                f"{self.lowest} to {self.highest}",
                "transpose the music, or train with it",
            )
        tokens = np.where(flat == notes.REST, SPECIAL["rest"], flat - self.lowest + len(SPECIAL))
        return np.concatenate([[SPECIAL["bos"]], tokens, [SPECIAL["eos"]]]).astype(np.int32)

    def voices(self, tokens: Iterable[int]) -> np.ndarray:
        """The (steps, 4) pitches in a row of tokens, up to the first eos or padding; the inverse of `piece`.

        A row that goes on in the middle of a piece begins with the last token of the row before, which
        belongs to no step of this one: of 4n + 1 tokens the first is left out, as a leading bos is. The
        voices that a broken last step lacks are silent.
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
        """Tokens of notes in the form that `decode` writes; white space, / and | stand between them.

        Raises:
          DataError: a word that is no note, or a note outside of the tokenizer's range.
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
        """The note's name and a space; special tokens but the rest add nothing."""
        pitches = [notes.name(p).encode() + b" " for p in range(self.lowest, self.highest + 1)]
        return [b"", b"", b"", _SILENT.encode() + b" ", *pitches]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "lowest": self.lowest, "highest": self.highest}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Chords:
        return cls(data["lowest"], data["highest"])

    @classmethod
    def fit(cls, text: str, options: Options = Options(), also: str = "") -> Chords:
        """The tokenizer for music that is written as text."""
        words = re.split(r"[\s/|]+", text + " " + also)
        pitches = [notes.pitch(w) for w in words if w and w != _SILENT]
        return cls(min(pitches, default=60), max(pitches, default=60))
