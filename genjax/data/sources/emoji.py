"""Load emoji, 32x32 in colour with 256 levels, in two styles: `emoji`, `emoji:google` or `emoji:twitter`.

The rows have the category as `label`, the name as `caption`, and, where both styles are loaded, `style`. 200
emoji are held out, in proportion to the size of each category, and in every style. The originals are
emoji32_google_twitter.npz (an array (N, 32, 32, 3), uint8, for each style) and emoji_meta.json (a list of
{"name": ..., "category": ...} whose entries correspond to the arrays' rows) in ORIGINALS/emoji.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays, Columns
from genjax.data.sources import _originals
from genjax.data.sources._captions import tokens_of
from genjax.data.sources._files import utf8
from genjax.data.sources._split import stratified
from genjax.data.sources._text import fit
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "emoji, emoji:google, emoji:twitter"
STYLES = ("google", "twitter")
FILES = ("emoji32_google_twitter.npz", "emoji_meta.json")
SHAPE = (32, 32, 3)
HELD = 200


def load(config: Config, argument: str) -> Loaded:
    """Return pictures with their categories and names.

    Raises:
      DataError: there is no such style, or the originals are missing or damaged.
    """
    if argument not in ("", *STYLES):
        raise DataError(f"emoji:{argument}: there is no such style", f"use one of {USAGE}")
    arrays, meta = _originals.files(config, "emoji", FILES)
    pictures = _pictures(arrays)
    names, categories = _meta(meta, len(pictures[STYLES[0]]))
    classes, label = np.unique(categories, return_inverse=True)
    label = label.astype(np.int32)
    # One line for each name, so that no word spans two of them. `chars` would learn the line end.
    tokenizer = fit(config, ("" if config.tokenizer == "chars" else "\n").join(names), "")
    caption, mask = tokens_of(tokenizer, names, config.length)
    styles = (argument,) if argument else STYLES

    def columns(rows: np.ndarray) -> Columns:
        # The styles of one emoji are neighbours, so that the first rows hold both.
        out = {"image": np.stack([pictures[style][rows] for style in styles], 1).reshape(-1, *SHAPE)}
        each = {"label": label, "caption": caption, "caption_mask": mask}
        out |= {k: np.repeat(v[rows], len(styles), 0) for k, v in each.items()}
        if len(styles) > 1:
            out["style"] = np.tile(np.arange(len(styles), dtype=np.int32), len(rows))
        return out

    train, held = map(columns, stratified(label, min(HELD, len(label) // 5)))
    elements = {
        "image": Element(SHAPE, "uint8", 256, "image", "target"),
        "label": Element((), "int32", len(classes), "label", "condition"),
        "caption": Element((config.length,), "int32", tokenizer.vocabulary, "caption", "condition"),
        "caption_mask": Element((config.length,), "float32", role="condition"),
    }
    if len(styles) > 1:
        elements["style"] = Element((), "int32", len(styles), "label", "condition")
    info = f"emoji: {len(label):,} emoji with names, in the style of {' and '.join(styles)}."
    content = digest(*(train[k] for k in sorted(train)), *(held[k] for k in sorted(held)))
    return Loaded(
        elements, Arrays(train), Arrays(held), content, tokenizer, classes=tuple(map(str, classes)), info=info
    )


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
