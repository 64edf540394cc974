"""Read the originals of the emoji: pictures in two styles, names and categories."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genjax.data.config import Config
from genjax.data.sources import _originals
from genjax.data.sources._files import utf8
from genjax.data.sources._split import stratified
from genjax.errors import DataError

STYLES = ("google", "twitter")
FILES = ("emoji32_google_twitter.npz", "emoji_meta.json")
SHAPE = (32, 32, 3)
HELD = 200
"""Emoji that are held out."""


class Emoji(NamedTuple):
    """Hold all emoji.

    Attributes:
      pictures: (N, 32, 32, 3), uint8, of each style.
      names: of the N emoji.
      classes: the categories.
      label: (N,), the category of each emoji.
    """

    pictures: dict[str, np.ndarray]
    names: list[str]
    classes: np.ndarray
    label: np.ndarray


def read(config: Config) -> Emoji:
    """Return the originals.

    Raises:
      DataError: they are missing or damaged.
    """
    arrays, meta = _originals.files(config, "emoji", FILES)
    pictures = _pictures(arrays)
    names, categories = _meta(meta, len(pictures[STYLES[0]]))
    classes, label = np.unique(categories, return_inverse=True)
    return Emoji(pictures, names, classes, label.astype(np.int32))


def split(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train and to evaluate with, in proportion to the size of each category."""
    return stratified(label, min(HELD, len(label) // 5))


def _pictures(path: Path) -> dict[str, np.ndarray]:
    """Return the pictures (N, 32, 32, 3) of each style."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {style: file[style] for style in STYLES}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or lacks a style: {error}", "copy it again") from error
    first = found[STYLES[0]]
    for style, x in found.items():
        if x.dtype != np.uint8 or x.shape[1:] != SHAPE or len(x) != len(first) or not len(x):
            raise DataError(
                f"{path}: {style} is {x.dtype}{list(x.shape)}, not uint8[N, 32, 32, 3] of one N",
                "copy it again",
            )
    return found


def _meta(path: Path, count: int) -> tuple[list[str], list[str]]:
    """Return the name and the category of each emoji."""
    try:
        entries = json.loads(utf8(path))
        names = [str(entry["name"]) for entry in entries]
        categories = [str(entry["category"]) for entry in entries]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a list of names and categories: {error}", "copy it again") from error
    if len(names) != count:
        raise DataError(f"{path} names {len(names)} emoji, and there are {count} pictures", "copy it again")
    return names, categories
