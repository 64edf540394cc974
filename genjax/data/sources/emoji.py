"""Load emoji, 32x32 in colour with 256 levels, in two styles: `emoji`, `emoji:google` or `emoji:twitter`.

The rows have the category as `label`, the name as `caption`, and, where both styles are loaded, `style`. 200
emoji are held out, in proportion to the size of each category, and in every style. The originals are
emoji32_google_twitter.npz (an array (N, 32, 32, 3), uint8, for each style) and emoji_meta.json (a list of
{"name": ..., "category": ...} whose entries correspond to the arrays' rows) in ORIGINALS/emoji.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays, Columns
from genjax.data.sources import _emoji
from genjax.data.sources._captions import tokens_of
from genjax.data.sources._emoji import SHAPE, STYLES
from genjax.data.sources._text import fit
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "emoji, emoji:google, emoji:twitter"


def load(config: Config, argument: str) -> Loaded:
    """Return pictures with their categories and names.

    Raises:
      DataError: there is no such style, or the originals are missing or damaged.
    """
    if argument not in ("", *STYLES):
        raise DataError(f"emoji:{argument}: there is no such style", f"use one of {USAGE}")
    pictures, names, classes, label = _emoji.read(config)
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

    train, held = map(columns, _emoji.split(label))
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
