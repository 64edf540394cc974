"""Load emoji in two styles as two domains: `source` (google) is translated to `image` (twitter).

`emoji_styles` has unpaired training rows: each style is shuffled by itself. `emoji_styles:paired` has the
two pictures of one emoji in a row. The 200 held-out rows of both are pairs, which no training sees.
Originals: see the source `emoji`.
"""

from __future__ import annotations

import numpy as np

from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.load import Loaded
from genjax.data.rows import Arrays, Rows, Zipped
from genjax.data.sources import _emoji
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "emoji_styles, emoji_styles:paired"


def targets(argument: str) -> str:
    """Return the dataset whose pictures are the targets."""
    return "emoji:twitter"


def load(config: Config, argument: str) -> Loaded:
    """Return pictures of the two styles side by side, with the category of `source`.

    Raises:
      DataError: another word than "paired", or the originals are missing or damaged.
    """
    if argument not in ("", "paired"):
        raise DataError(f"emoji_styles:{argument}: there are no such rows", f"use one of {USAGE}")
    found = _emoji.read(config)
    first, second = (found.pictures[style] for style in _emoji.STYLES)
    paired = bool(argument)

    def part(rows: np.ndarray, pairs: bool) -> Rows:
        one = {"source": first[rows], "label": found.label[rows]}
        other = {"image": second[rows]}
        if pairs:
            return Arrays({**one, **other})
        return Zipped({"a": Arrays(one), "b": Arrays(other)}, suffix=False)

    train, held = _emoji.split(found.label)
    picture = Element(_emoji.SHAPE, "uint8", 256, "image")
    elements = {
        "source": picture.replace(role="condition"),
        "label": Element((), "int32", len(found.classes), "label"),
        "image": picture.replace(role="target"),
    }
    content = digest(*(x[rows] for rows in (train, held) for x in (first, second, found.label)))
    how = "pairs" if paired else "unpaired"
    return Loaded(
        elements,
        part(train, paired),
        part(held, True),
        f"{content} {how}",
        classes=tuple(map(str, found.classes)),
        info=f"emoji_styles: {len(found.label):,} emoji in two styles, {how}.",
        paired=paired,
        held_pairs=not paired,
    )
