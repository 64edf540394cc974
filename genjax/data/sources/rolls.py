"""Load piano rolls from a .mat or .npz file, or from a folder of MIDI files: rolls:PATH.

A .mat file holds the cell arrays traindata, validdata and testdata, as those of JSB Chorales, Nottingham,
MuseData and Piano-midi.de do (Boulanger-Lewandowski et al. 2012, arXiv:1206.6392). `_rollfiles.read_npz`
says what an .npz file holds. In a folder, the MIDI files at any depth are read without their drums,
data.per_quarter frames to a quarter note; subfolders train, valid and test are parts.

A row has `roll` (data.length + 1 frames) and `segment`, which numbers the piece and is 0 on padding. Frame
i + 1 is predicted from the frames up to i, so that the first frame of a piece is never predicted. A longer
piece continues in the next row, which repeats one frame.

data.eval_split="test" evaluates with the test pieces; the default is the validation pieces, or the test
pieces if there are no others. Without parts, a fixed random data.eval_fraction of the pieces is held out.
With data.transpose, training pieces are present in every key of the range.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources import _midifolder, _originals, _rollfiles, _rolls
from genjax.data.sources._files import existing
from genjax.data.sources._rollfiles import WHOLE, Rolls
from genjax.data.sources._split import stratified
from genjax.errors import DataError

USAGE = "rolls:PATH"
PER_QUARTER = 4
"""Frames of a quarter note at which MIDI files are read by default."""
PICKLES = (".pickle", ".pkl", ".p")


def load(config: Config, argument: str) -> Loaded:
    """Return piano rolls as rows.

    Raises:
      DataError: no such path or split, a file that is damaged or has another form, or too few pieces.
      ConfigError: packed rolls, or a transposition that moves a note off the keyboard.
    """
    _rolls.check(config)
    path = existing(argument, "rolls")
    rolls, rate, lost = _read(path, config)
    train, held, name = _divided(config, path, rolls)
    frames = sum(len(x) for x in (*train, *held))
    count = f"{len(train):,} to train, {len(held):,} to evaluate ({name}), {frames:,} frames"
    info = f"piano rolls of {path}: {count}"
    if lost:
        info += f"; {lost:,} notes outside of the piano's keys left out"
    return _rolls.load(config, train, held, info, rate)


def _read(path: Path, config: Config) -> tuple[Rolls, int, int]:
    """Return ({part: pieces}, frames of a quarter note, notes left out)."""
    if path.is_dir():
        rate = config.per_quarter or PER_QUARTER
        rolls, lost = _midifolder.read_folder(path, rate)
        return rolls, rate, lost
    rate = config.per_quarter or 1
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _rollfiles.read_mat(path), rate, 0
    if suffix == ".npz":
        return _rollfiles.read_npz(path), rate, 0
    if suffix in _midifolder.SUFFIXES:
        raise DataError(
            f"{path} is one piece, and one more must be held out", "name the folder of the pieces"
        )
    if suffix in PICKLES:
        raise DataError(
            f"{path} is a pickle, which can run code when it is read", "use the .mat file of the data"
        )
    raise DataError(
        f"{path} is no .mat or .npz file and no folder of MIDI files", "convert it to one of them"
    )


def _divided(config: Config, path: Path, rolls: Rolls) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Return (training pieces, pieces to evaluate with, their name)."""
    splits = {"validation": "valid", "valid": "valid", "test": "test"}
    present = {name: part for name, part in splits.items() if part in rolls}
    if present:
        held = _originals.choose(config, present)
        return rolls["train"], rolls[held], held
    if config.eval_split is not None:
        raise DataError(
            f"{config.name!r} has no parts, and data.eval_split is {config.eval_split!r}",
            "leave data.eval_split out: data.eval_fraction says how many pieces are held out",
        )
    pieces = rolls[WHOLE if WHOLE in rolls else "train"]
    if len(pieces) < 2:
        raise DataError(f"{path} has one piece, and one must be held out", "add another one")
    count = int(np.clip(round(len(pieces) * config.eval_fraction), 1, len(pieces) - 1))
    train, held = stratified(np.zeros(len(pieces), np.int64), count)
    return [pieces[i] for i in train], [pieces[i] for i in held], "held out"
