"""Load J. S. Bach's four-part chorales, as piano rolls or (`chorales:voices`) as four voices.

`chorales` reads JSB_Chorales.mat (Boulanger-Lewandowski et al. 2012, arXiv:1206.6392): binary frames of 88
keys, one frame per quarter note, all pieces transposed to one key and about an octave above singing pitch.
There are 229 pieces to train, 76 to validate and 77 to test. `chorales:voices` reads jsb-chorales-16th.json:
the MIDI pitches of the four voices at sixteenth notes, in the original keys, with splits of the same sizes.
The originals are in ORIGINALS/jsb_chorales; data.eval_split="test" evaluates with the test pieces.

A row of rolls has `roll` and `segment`, as those of `rolls:PATH`. A row of voices has `tokens` (length + 1)
and `token_mask` (length: 0 on padding): bos, then soprano, alto, tenor and bass of each step, then eos. A
longer piece continues in the next row, which repeats one token. Rows hold whole bars (16 steps) if
data.length is a multiple of 64. eos is left out if it would need a row of its own.

With data.transpose, training pieces are present in every key of the range; evaluation pieces keep their key.
With data.pack, whole pieces of voices share rows. In that case, and in the order `lanes`, `segment` replaces
their `token_mask` and numbers the pieces.
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
from genjax.data.sources import _originals, _rollfiles, _rolls
from genjax.data.tokenizers.chords import SPECIAL, VOICES, Chords
from genjax.errors import ConfigError, DataError
from genjax.music import notes
from genjax.spec import Element

FOLDER = "jsb_chorales"
ROLLS = "JSB_Chorales.mat"
STEPS = "jsb-chorales-16th.json"
SPLITS = {"validation": "valid", "valid": "valid", "test": "test"}


def load(config: Config, argument: str) -> Loaded:
    """Return piano rolls, or voices.

    Raises:
      DataError: no such form or split, or originals that are missing or invalid.
      ConfigError: packed rolls, or rows of voices whose length is not a multiple of 4.
    """
    held = _originals.choose(config, SPLITS)
    if argument not in ("", "rolls", "voices"):
        raise DataError(f"there are no chorales as {argument!r}", "use chorales or chorales:voices")
    return (_voices if argument == "voices" else _chords)(config, held)


def _chords(config: Config, held: str) -> Loaded:
    """Return piano rolls as rows."""
    _rolls.check(config)
    (path,) = _originals.files(config, FOLDER, [ROLLS])
    rolls = _rollfiles.read_mat(path)
    lost = sorted({"train", held} - set(rolls))
    if lost:
        raise _unlike(path, f"it has no part {lost[0]!r}")
    info = f"chorales as piano rolls: {_count(rolls, held)}"
    return _rolls.load(config, rolls["train"], rolls[held], info, 1)


def _voices(config: Config, held: str) -> Loaded:
    """Return the tokens of four voices as rows."""
    if config.length % VOICES:
        raise ConfigError(
            f"data.length={config.length}, but a step has {VOICES} tokens",
            f"set it to a multiple of {VOICES} (a bar has 64 tokens)",
        )
    (path,) = _originals.files(config, FOLDER, [STEPS])
    voices = read_voices(path)
    tokenizer = _tokenizer(voices, config.transpose)
    train = [np.where(p == notes.REST, p, p + k) for p in voices["train"] for k in _rolls.keys(config)]
    documents = [[tokenizer.piece(p) for p in part] for part in (train, voices[held])]
    apart = config.pack or config.order == "lanes"
    if config.pack:
        parts: list[Arrays] = [Packed(d, config.length, SPECIAL["pad"], np.uint8) for d in documents]
    else:
        # A piece that fills its rows without eos ends there, instead of adding a row for eos alone.
        cut = [[d[:-1] if (len(d) - 2) % config.length == 0 else d for d in part] for part in documents]
        parts = [_windows(part, config.length, "tokens", np.int32, segments=apart) for part in cut]
    elements = {"tokens": Element((config.length + 1,), "int32", tokenizer.vocabulary, "voices", "target")}
    if apart:
        elements["segment"] = Element((config.length + 1,), "int32")
    else:
        elements["token_mask"] = Element((config.length,), "float32")
    info = f"chorales in four voices: {_count(voices, held)}{_rolls.in_keys(config)}"
    content = digest(*(c for p in parts for c in p.columns.values()))
    return Loaded(elements, parts[0], parts[1], content, tokenizer, info=info)


def _tokenizer(voices: dict[str, list[np.ndarray]], transpose: int) -> Chords:
    """Return the tokenizer for the pitches of all splits, transposed by up to this many semitones."""
    sounding = np.concatenate([p[p != notes.REST] for split in voices.values() for p in split])
    return Chords(int(sounding.min()) - transpose, int(sounding.max()) + transpose)


def _count(pieces: dict[str, list[np.ndarray]], held: str) -> str:
    return f"{len(pieces['train'])} to train, {len(pieces[held])} to evaluate ({held})"


def _windows(
    sequences: list[np.ndarray], length: int, name: str, dtype: type, segments: bool = False
) -> Arrays:
    """Return pieces as rows of length + 1 slots, padded with 0; each piece begins a new row.

    Args:
      name: of the column with the content.
      segments: add the column `segment`, else `token_mask`.
    """
    parts = [(n, p) for n, s in enumerate(sequences, 1) for p in pieces(s, length)]
    rows = np.zeros((len(parts), length + 1, *sequences[0].shape[1:]), dtype)
    segment = np.zeros((len(parts), length + 1), np.int32)
    for r, (n, part) in enumerate(parts):
        rows[r, : len(part)] = part
        segment[r, : len(part)] = n
    return Arrays({name: rows} | ({"segment": segment} if segments else {"token_mask": _mask(segment)}))


def _mask(segment: np.ndarray) -> np.ndarray:
    """Return 1 where the slot after position i is no padding: (rows, length)."""
    return (segment[:, 1:] > 0).astype(np.float32)


def read_voices(path: Path) -> dict[str, list[np.ndarray]]:
    """Return the pieces of a JSON file {"train": [...], "valid": [...], "test": [...]}.

    Returns:
      {"train", "valid", "test": pieces (steps, 4) int16, MIDI pitches}.

    Raises:
      DataError: the file has another form.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return {p: [notes.voices_of_frames(c) for c in data[p]] for p in ("train", "valid", "test")}
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise _unlike(path, f"{type(error).__name__}: {error}") from error


def _unlike(path: Path, what: str) -> DataError:
    return DataError(f"{path} does not hold chorales: {what}", "download the file again")
