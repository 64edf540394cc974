"""Read piano rolls from .mat and .npz files and from folders of MIDI files, with one error for each problem.

Each reader returns {part: pieces}: parts among "train", "valid" and "test", or the part WHOLE alone if the
file or folder is not divided. A piece is (frames, 88) uint8 with values 0 and 1, of at least 2 frames.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import DataError, nearest
from genjax.music.notes import KEYS, LOWEST_KEY

PARTS = ("train", "valid", "test")
WHOLE = "whole"
Rolls = dict[str, list[np.ndarray]]
NPZ = "roll"
"""The name of the array of an undivided .npz file: that of the samples of `genjax sample`."""
LENGTHS = "_lengths"


def read_mat(path: Path) -> Rolls:
    """Return the pieces in the cell arrays traindata, validdata and testdata of a MATLAB file.

    The form of Boulanger-Lewandowski et al. 2012 (arXiv:1206.6392) and Bai et al. 2018 (arXiv:1803.01271).
    validdata and testdata may be missing.

    Raises:
      DataError: the file is damaged or has another form.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError as error:  # HDF5
        raise DataError(f"{path} is a MATLAB file of version 7.3", "save it with the option -v7") from error
    except Exception as error:  # scipy raises errors of many types
        raise _damaged(path, "MATLAB file", error) from error
    found = {name: x for name, x in content.items() if not name.startswith("__")}
    names = {f"{part}data": part for part in PARTS}
    _check_names(path, found, names, "traindata")
    return {part: _cells(path, name, found[name]) for name, part in names.items() if name in found}


def _cells(path: Path, name: str, cells: Any) -> list[np.ndarray]:
    """Return the pieces of a cell array, or of an array (pieces, frames, keys)."""
    where = f"{path}: {name}"
    if not isinstance(cells, np.ndarray) or (cells.dtype != object and cells.ndim != 3):
        raise DataError(
            f"{where} is not a cell array of pieces", f"put one matrix (frames, {KEYS}) in a cell"
        )
    found = cells.reshape(-1) if cells.dtype == object else cells
    return _pieces(where, found)


def read_npz(path: Path) -> Rolls:
    """Return the pieces of a NumPy archive; nothing is unpickled.

    The arrays are `train`, `valid` and `test`, or `roll` alone for pieces that are not divided. Each has one
    of three forms: (pieces, frames, 88), all of one length; the same with `NAME_lengths` (pieces,), the
    frames of each piece, and zeros after them; or (all frames, 88), one piece after another, with
    `NAME_lengths`.

    Raises:
      DataError: the file is damaged or has another form.
    """
    arrays = _arrays(path)
    single = NPZ in arrays
    parts = {NPZ: WHOLE} if single else {part: part for part in PARTS}
    _check_names(path, arrays, [*parts, *(n + LENGTHS for n in parts)], NPZ if single else "train")
    return {
        part: _pieces(f"{path}: {name}", _ragged(path, name, arrays[name], arrays.get(name + LENGTHS)))
        for name, part in parts.items()
        if name in arrays
    }


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an archive."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz file", "write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise _damaged(path, ".npz file", error) from error
        raise DataError(
            f"{path} holds pickled objects, which can run code when they are read",
            f"save each part as an array (all frames, {KEYS}), and the frames of its pieces as PART{LENGTHS}",
        ) from error
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many types
        raise _damaged(path, ".npz file", error) from error


def _ragged(path: Path, name: str, frames: np.ndarray, lengths: np.ndarray | None) -> list[np.ndarray]:
    """Return the pieces of one array: see `read_npz`."""
    where = f"{path}: {name}"
    if lengths is None:
        if frames.ndim != 3:
            raise DataError(
                f"{where} has the shape {frames.shape}",
                f"save (pieces, frames, {KEYS}), or (all frames, {KEYS}) with {name}{LENGTHS}",
            )
        return list(frames)
    padded = frames.ndim == 3
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise DataError(
            f"{where}{LENGTHS} is not a list of numbers of frames", "save one integer for each piece"
        )
    fits = (
        len(lengths) == len(frames) and lengths.max(initial=0) <= frames.shape[1]
        if padded
        else (frames.ndim == 2 and int(lengths.sum()) == len(frames))
    )
    if not fits:
        raise DataError(
            f"{where} has the shape {frames.shape}, which does not fit {len(lengths)} pieces of together "
            f"{int(lengths.sum()):,} frames",
            f"{name}{LENGTHS} gives the frames of each piece",
        )
    if not padded:
        return np.split(frames, np.cumsum(lengths)[:-1])
    for number, (piece, count) in enumerate(zip(frames, lengths, strict=True)):
        if np.any(piece[count:]):
            raise DataError(
                f"{where}: piece {number} has notes after its {count} frames", f"check {name}{LENGTHS}"
            )
    return [piece[:count] for piece, count in zip(frames, lengths, strict=True)]


def _pieces(where: str, found: Iterable[Any]) -> list[np.ndarray]:
    """Return pieces as (frames, 88) uint8.

    Raises:
      DataError: there is none, or one is not a binary roll; says which.
    """
    out = [_roll(f"{where}: piece {number}", x) for number, x in enumerate(found)]
    if not out:
        raise DataError(f"{where} has no pieces", "add some, or leave the part out")
    return out


def _roll(where: str, x: Any) -> np.ndarray:
    """Return one piece as (frames, 88) uint8."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise DataError(f"{where} does not hold numbers ({kind})", "save binary values")
    if x.ndim != 2 or x.shape[1] != KEYS:
        raise DataError(f"{where} has the shape {x.shape}, not (frames, {KEYS})", _reshaped(x.shape))
    if len(x) < 2:
        raise DataError(
            f"{where} has {len(x)} frames", "a piece needs at least 2: the first is not predicted"
        )
    bad = ~((x == 0) | (x == 1))
    if bad.any():
        frame, key = np.argwhere(bad)[0]
        raise DataError(
            f"{where} has the value {x[frame, key]} (frame {frame}, key {key}), and a roll is binary",
            "save 1 for a key that sounds (loudness > 0) and 0 for silence",
        )
    return x.astype(np.uint8)


def _reshaped(shape: tuple[int, ...]) -> str:
    """Return a hint on how to make a roll of an array of this shape."""
    if len(shape) == 2 and shape[0] == KEYS:
        return "transpose it: frames come first"
    if len(shape) == 2 and shape[1] == 128:
        return f"keep the keys of a piano: x[:, {LOWEST_KEY}:{LOWEST_KEY + KEYS}]"
    return f"save one frame in a row, with a column for each of the {KEYS} keys (A0 to C8)"


def _check_names(path: Path, found: Collection[str], known: Collection[str], needed: str) -> None:
    """Raise DataError for an array that is missing or unknown."""
    unknown = [name for name in found if name not in known]
    if needed in found and not unknown:
        return
    what = f"has no {needed}" if needed not in found else f"has an unknown array {unknown[0]!r}"
    close = nearest(unknown[0], known) if unknown else ""
    raise DataError(
        f"{path} {what}{close}; it holds {', '.join(sorted(found)) or 'nothing'}", f"use {', '.join(known)}"
    )


def _damaged(path: Path, form: str, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as a {form}: {type(error).__name__}: {error}", "save the file again"
    )
