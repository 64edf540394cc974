"""chorales: J. S. Bach's four-part chorales, as piano rolls or (`chorales:voices`) as four voices.

`chorales` is JSB_Chorales.mat (Boulanger-Lewandowski et al. 2012, arXiv:1206.6392): 88-key binary frames, a
frame a quarter note, all pieces moved to one key and about an octave above where they are sung; 229 to train,
76 to validate, 77 to test. `chorales:voices` is jsb-chorales-16th.json, the four voices' MIDI pitches at
sixteenth notes, in the keys that they are written in, with splits of the same sizes. The originals lie in
ORIGINALS/jsb_chorales; data.eval_split="test" evaluates with the test pieces.

A row of rolls has `roll` (length + 1 frames) and `token_mask` (length: 0 on padding): what follows frame i
is predicted from what came up to i, so that a piece's first frame is read only. A row of voices has
`tokens` (length + 1) and `token_mask`: bos, then soprano, alto, tenor and bass of each step, then eos. A
longer piece goes on in the next row, which repeats one frame or token; rows of voices hold whole bars (16
steps) where data.length is a multiple of 64. eos is left out where it would need a row of its own.
With data.transpose the training pieces are there in every key of that range, evaluation pieces in their own.
With data.pack whole pieces of voices share rows; there, and in the order `lanes`, `segment` takes the place
of `token_mask` and tells the pieces apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.documents import Packed, pieces
from genjax.data.load import Loaded
from genjax.data.rows import Arrays
from genjax.data.sources import _originals
from genjax.data.tokenizers.chords import SPECIAL, VOICES, Chords
from genjax.errors import ConfigError, DataError
from genjax.music import notes
from genjax.spec import Element

FOLDER, ROLLS, STEPS = "jsb_chorales", "JSB_Chorales.mat", "jsb-chorales-16th.json"
SPLITS = {"validation": "valid", "valid": "valid", "test": "test"}
KEYS = 88


def load(config: Config, argument: str) -> Loaded:
    """Piano rolls, or voices.

    Raises:
      DataError: no such form or split, originals that are missing or not what they should be.
      ConfigError: rolls cannot be packed; four tokens make a step.
    """
    held = _originals.choose(config, SPLITS)
    if argument not in ("", "rolls", "voices"):
        raise DataError(f"there are no chorales as {argument!r}", "chorales, or chorales:voices")
    return (_voices if argument == "voices" else _rolls)(config, held)


def _rolls(config: Config, held: str) -> Loaded:
    if config.pack:
        raise ConfigError("piano rolls are not packed", "data.pack=False, or data.name='chorales:voices'")
    (path,) = _originals.files(config, FOLDER, [ROLLS])
    pieces_ = read_rolls(path)
    count = f"{len(pieces_['train'])} to train, {len(pieces_[held])} to evaluate ({held})"
    pieces_["train"] = [_moved(x, k) for x in pieces_["train"] for k in _keys(config)]
    parts = [_windows(pieces_[part], config.length, "roll", np.uint8) for part in ("train", held)]
    elements = {
        "roll": Element((config.length + 1, KEYS), "uint8", 2, "roll", "target"),
        "token_mask": Element((config.length,), "float32"),
    }
    info = f"chorales as piano rolls: {count}" + _says(config)
    content = digest(*(c for p in parts for c in p.columns.values()))
    return Loaded(elements, parts[0], parts[1], content, info=info)


def _voices(config: Config, held: str) -> Loaded:
    if config.length % VOICES:
        raise ConfigError(
            f"data.length={config.length}: {VOICES} tokens make a step", f"a multiple of {VOICES} (64 a bar)"
        )
    (path,) = _originals.files(config, FOLDER, [STEPS])
    voices = read_voices(path)
    sounding = np.concatenate([p[p != notes.REST] for split in voices.values() for p in split])
    wide = config.transpose
    tokenizer = Chords(int(sounding.min()) - wide, int(sounding.max()) + wide)
    train = [np.where(p == notes.REST, p, p + k) for p in voices["train"] for k in _keys(config)]
    documents = [[tokenizer.piece(p) for p in part] for part in (train, voices[held])]
    apart = config.pack or config.order == "lanes"
    if config.pack:
        parts: list[Arrays] = [Packed(d, config.length, SPECIAL["pad"], np.uint8) for d in documents]
    else:
        # Without its eos, a piece of whole rows ends with its last one.
        cut = [[d[:-1] if (len(d) - 2) % config.length == 0 else d for d in part] for part in documents]
        parts = [_windows(part, config.length, "tokens", np.int32, segments=apart) for part in cut]
    elements = {"tokens": Element((config.length + 1,), "int32", tokenizer.vocabulary, "voices", "target")}
    elements |= (
        {"segment": Element((config.length + 1,), "int32")}
        if apart
        else {"token_mask": Element((config.length,), "float32")}
    )
    count = f"{len(voices['train'])} to train, {len(voices[held])} to evaluate ({held})" + _says(config)
    content = digest(*(c for p in parts for c in p.columns.values()))
    return Loaded(elements, parts[0], parts[1], content, tokenizer, info=f"chorales in four voices: {count}")


def _keys(config: Config) -> range:
    """By how many semitones a training piece is moved."""
    return range(-config.transpose, config.transpose + 1)


def _says(config: Config) -> str:
    return f", each in {len(_keys(config))} keys" if config.transpose else ""


def _moved(roll: np.ndarray, semitones: int) -> np.ndarray:
    """A roll moved by so many keys.

    Raises:
      ConfigError: a note would leave the keyboard.
    """
    moved = np.roll(roll, semitones, axis=1)
    gone = moved[:, :semitones] if semitones > 0 else moved[:, KEYS + semitones :]
    if semitones and gone.any():
        raise ConfigError(f"data.transpose moves a note off the {KEYS} keys", "a smaller data.transpose")
    return moved


def _windows(
    sequences: list[np.ndarray], length: int, name: str, dtype: type, segments: bool = False
) -> Arrays:
    """Pieces as rows of length + 1 slots, each piece beginning a row; padding is 0."""
    parts = [(n, p) for n, s in enumerate(sequences, 1) for p in pieces(s, length)]
    rows = np.zeros((len(parts), length + 1, *sequences[0].shape[1:]), dtype)
    segment = np.zeros((len(parts), length + 1), np.int32)
    for r, (n, part) in enumerate(parts):
        rows[r, : len(part)], segment[r, : len(part)] = part, n
    return Arrays({name: rows} | ({"segment": segment} if segments else {"token_mask": _mask(segment)}))


def _mask(segment: np.ndarray) -> np.ndarray:
    return (segment[:, 1:] > 0).astype(np.float32)


def read_rolls(path: Path) -> dict[str, list[np.ndarray]]:
    """The pieces of a .mat file's cell arrays traindata, validdata and testdata: (frames, 88) uint8.

    Raises:
      DataError: it is not such a file.
    """
    from scipy.io import loadmat

    try:
        cells = loadmat(path)
        found = {
            part: [np.asarray(x, np.uint8) for x in cells[f"{part}data"].reshape(-1)]
            for part in ("train", "valid", "test")
        }
        bad = next(
            (x for p in found.values() for x in p if x.ndim != 2 or x.shape[1] != KEYS or x.max() > 1), None
        )
    except Exception as error:  # scipy raises many kinds
        raise _unlike(path, f"{type(error).__name__}: {error}") from error
    if bad is not None:
        raise _unlike(path, f"a piece of shape {bad.shape} with values up to {bad.max()}")
    return found


def read_voices(path: Path) -> dict[str, list[np.ndarray]]:
    """The pieces of a JSON file {"train": [...], "valid": [...], "test": [...]}: (steps, 4) int16 pitches.

    Raises:
      DataError: it is not such a file.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return {p: [notes.voices_of_frames(c) for c in data[p]] for p in ("train", "valid", "test")}
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise _unlike(path, f"{type(error).__name__}: {error}") from error


def _unlike(path: Path, what: str) -> DataError:
    return DataError(f"{path} does not hold chorales: {what}", "fetch the file again")
