"""Render simple shapes whose factors are known: `shapes`, or `shapes:sprites` (the factors of dSprites).

`shapes`: one to three equal shapes in a row, in colour, with a caption. A row is a function of its number
alone: 60,000 rows to train and 5,000 to evaluate, of 82,944 combinations of factors, without repetition.

`shapes:sprites`: one white shape on black, 64 x 64 pixels, in the factor grid of dSprites (Matthey et al.
2017): 3 shapes, 6 sizes, 40 rotations, 32 x 32 positions. The outlines are ours. All 737,280 combinations are
rows to train. The first 10,000 of another fixed order are the rows to evaluate: there are no other ones.

Every factor is an auxiliary element, which no model is given. data.size is the side in pixels (None: 32, or
64 for sprites).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.data import scenes
from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.permutation import permute
from genjax.data.rows import Columns, Rows
from genjax.data.sources._captions import tokens_of
from genjax.data.sources._text import fit
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "shapes, shapes:sprites"
COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (240, 220, 40),
    "green": (44, 160, 44),
    "cyan": (40, 200, 210),
    "blue": (31, 90, 200),
    "purple": (150, 70, 200),
    "pink": (240, 130, 190),
}
BACKGROUNDS = {
    "white": (250, 250, 250),
    "grey": (128, 128, 128),
    "brown": (110, 70, 40),
    "black": (10, 10, 10),
}
SHAPES = {"circle": scenes.circle, "square": scenes.square, "triangle": scenes.triangle, "star": scenes.star}
SIZES = ("small", "medium", "large")
COLUMNS = ("left", "", "right")
LINES = ("top", "", "bottom")
COUNTS = ("one", "two", "three")
FACTORS = {
    "shape": len(SHAPES),
    "colour": len(COLOURS),
    "size": len(SIZES),
    "column": len(COLUMNS),
    "line": len(LINES),
    "rotation": 8,
    "background": len(BACKGROUNDS),
    "count": len(COUNTS),
}
"""Values of each factor of `shapes`; the last one changes fastest with the number of a combination."""
SPRITES = {"shape": 3, "scale": 6, "rotation": 40, "column": 32, "line": 32}
"""Values of each factor of `shapes:sprites`, in the order of dSprites."""
ORDER, OTHER = 1, 2
"""Seeds of the fixed orders of the combinations."""
VERSION = "1"
"""Changes with the pixels, and with it the fingerprint."""


class Rendered(Rows):
    """Render rows of a factor grid.

    Args:
      factors: the number of values of each factor.
      order: numbers of combinations; row i is combination order[i].
      render: {factor: (N,) int64} -> columns.
    """

    def __init__(self, factors: Mapping[str, int], order: np.ndarray, render: Any):
        self.factors = dict(factors)
        self.order = order
        self.render = render

    def __len__(self) -> int:
        return len(self.order)

    def __call__(self, indices: np.ndarray) -> Columns:
        values = combination(self.factors, self.order[indices])
        return {**self.render(values), **{k: v.astype(np.int32) for k, v in values.items()}}

    def select(self, index: np.ndarray) -> Rows:
        """Return the rows at `index`, in that order."""
        return Rendered(self.factors, self.order[index], self.render)


def combination(factors: Mapping[str, int], number: np.ndarray) -> dict[str, np.ndarray]:
    """Return the value of each factor in the combinations of these numbers."""
    values = np.unravel_index(number, tuple(factors.values()))
    return dict(zip(factors, values, strict=True))


def load(config: Config, argument: str) -> Loaded:
    """Return rendered images with their factors, and captions of `shapes`.

    Raises:
      DataError: an unknown variant, or a size too small to draw in.
    """
    if argument not in ("", "sprites"):
        raise DataError(f"shapes:{argument}: there is no such variant", "use shapes or shapes:sprites")
    side = config.size or (64 if argument else 32)
    if side < 16:
        raise DataError(f"data.size={side}: shapes need at least 16 pixels", "use a larger data.size")
    return _sprites(side) if argument else _scenes(config, side)


def _sprites(side: int) -> Loaded:
    total = int(np.prod(list(SPRITES.values())))
    numbers = np.arange(total)
    train = Rendered(SPRITES, permute(total, ORDER, 0, numbers), lambda v: {"image": sprites(v, side)})
    held = Rendered(SPRITES, permute(total, OTHER, 0, numbers[:10_000]), train.render)
    elements = {"image": Element((side, side, 1), "uint8", 2, "image", "target"), **_factors(SPRITES)}
    info = f"shapes:sprites: {total:,} white shapes on black, all combinations of {', '.join(SPRITES)}."
    return Loaded(elements, train, held, _content("sprites", side), info=info)


def sprites(values: Mapping[str, np.ndarray], side: int) -> np.ndarray:
    """Return white shapes on black (N, side, side, 1), uint8 of two levels."""
    unit = side / 64.0
    size = (0.5 + 0.1 * values["scale"]) * 14.0 * unit
    angle = 2 * np.pi * values["rotation"] / 39.0
    # Positions keep the largest shape, turned to any angle, inside of the image.
    margin = 18.0 * unit
    centre = tuple(margin + (side - 2 * margin) * values[k] / 31.0 for k in ("column", "line"))
    out = np.zeros((len(size), side, side), np.float32)
    for number, shape in enumerate((scenes.square, scenes.ellipse, scenes.heart)):
        rows = np.flatnonzero(values["shape"] == number)
        if len(rows):
            place = (centre[0][rows], centre[1][rows])
            out[rows] = scenes.coverage(shape, side, place, size[rows], angle[rows])
    return (out >= 0.5).astype(np.uint8)[..., None]


def _scenes(config: Config, side: int) -> Loaded:
    total = int(np.prod(list(FACTORS.values())))
    order = permute(total, ORDER, 0, np.arange(65_000))
    tokenizer = fit(config, "\n".join(sorted(_vocabulary())), "")

    def render(values: Mapping[str, np.ndarray]) -> Columns:
        return {"image": scene(values, side), **_captions(values, tokenizer, config.length)}

    train, held = (Rendered(FACTORS, part, render) for part in (order[:60_000], order[60_000:]))
    elements = {
        "image": Element((side, side, 3), "uint8", 256, "image", "target"),
        "caption": Element((config.length,), "int32", tokenizer.vocabulary, "caption", "condition"),
        "caption_mask": Element((config.length,), "float32", role="condition"),
        **_factors(FACTORS),
    }
    info = f"shapes: {len(train):,} scenes of one to three shapes in colour, with captions."
    content = _content(f"scenes {config.tokenizer} {config.length}", side)
    return Loaded(elements, train, held, content, tokenizer, info=info)


def scene(values: Mapping[str, np.ndarray], side: int) -> np.ndarray:
    """Return scenes in colour: (N, side, side, 3), uint8."""
    rows = len(values["shape"])
    size = (0.07 + 0.025 * values["size"]) * side
    angle = 2 * np.pi * values["rotation"] / FACTORS["rotation"]
    middle = [(0.5 + 0.16 * (values[k] - 1.0)) * side for k in ("column", "line")]
    colour = np.array(list(COLOURS.values()), np.float32)[values["colour"]][:, None, None]
    picture = np.array(list(BACKGROUNDS.values()), np.float32)[values["background"]][:, None, None]
    picture = np.broadcast_to(picture, (rows, side, side, 3)).copy()
    for k in range(FACTORS["count"]):
        # A row of equal shapes about the middle.
        x = middle[0] + (k - 0.5 * values["count"]) * 2.2 * size
        present = values["count"] >= k
        for number, shape in enumerate(SHAPES.values()):
            at = np.flatnonzero(present & (values["shape"] == number))
            if not len(at):
                continue
            share = scenes.coverage(shape, side, (x[at], middle[1][at]), size[at], angle[at])[..., None]
            picture[at] += share * (colour[at] - picture[at])
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def caption(value: Mapping[str, int]) -> str:
    """Return the caption of one scene: "two small red circles at the top left on a grey background"."""
    several = "s" if value["count"] else ""
    where = " ".join(word for word in (LINES[value["line"]], COLUMNS[value["column"]]) if word)
    place = f"at the {where}" if where else "in the middle"
    what = f"{SIZES[value['size']]} {list(COLOURS)[value['colour']]} {list(SHAPES)[value['shape']]}{several}"
    ground = list(BACKGROUNDS)[value["background"]]
    return f"{COUNTS[value['count']]} {what} {place} on a {ground} background"


def _captions(values: Mapping[str, np.ndarray], tokenizer: Tokenizer, length: int) -> Columns:
    """Return the captions as tokens, cut to `length`, and their mask."""
    texts = [caption({k: int(v[row]) for k, v in values.items()}) for row in range(len(values["shape"]))]
    tokens, mask = tokens_of(tokenizer, texts, length)
    return {"caption": tokens, "caption_mask": mask}


def _vocabulary() -> set[str]:
    """Return captions in which every value of every factor occurs."""
    first = dict.fromkeys(FACTORS, 0)
    each = [{**first, name: value} for name, size in FACTORS.items() for value in range(size)]
    several = [{**first, "count": 1, "shape": value} for value in range(len(SHAPES))]
    middle = {**first, "column": COLUMNS.index(""), "line": LINES.index("")}
    return {caption(value) for value in [*each, *several, middle]}


def _factors(factors: Mapping[str, int]) -> dict[str, Element]:
    """Return the element of each factor."""
    return {name: Element((), "int32", size, "label") for name, size in factors.items()}


def _content(variant: str, side: int) -> str:
    return hashlib.sha256(f"{variant} {side} {VERSION}".encode()).hexdigest()
