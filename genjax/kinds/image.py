"""Images: (height, width, channels) integers in [0, levels), or real values in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genjax.kinds import _files, _pixels
from genjax.kinds._interface import Field, Unit
from genjax.markup import Html, tag
from genjax.spec import Element

if TYPE_CHECKING:
    from PIL import Image

UNIT = Unit("bits_per_dim", "Bits per dimension", "bits", "realism")
OPTION = "input"
SUFFIX = ".png"
PICTURE = True
SHOWN = 80
"""Images on a card."""
CAPTIONED = 24
"""Images on a card of captioned ones."""
MAT = 18
"""The grey behind the tiles of `row`."""


def preview(field: Field, captions: Sequence[str] | None = None) -> Image.Image:
    """Draw a grid that is close to a square; small images are enlarged."""
    del captions
    images, levels = _pixels.visible(field.element, field.values)
    columns = math.ceil(math.sqrt(len(images)))
    gap = max(images.shape[1] // 14, 1)
    scale = max(1, 512 // (columns * (max(images.shape[1:3]) + gap)))
    return _pixels.grid(images, levels, columns, scale, gap=gap * scale, background=255)


def save(field: Field, path: Path, columns: int, captions: Sequence[str] | None = None) -> Path:
    """Write a grid of all images as a PNG."""
    del captions
    images, levels = _pixels.visible(field.element, field.values)
    scale = max(1, 32 // images.shape[1])
    return _pixels.save(path.with_suffix(SUFFIX), images, levels, columns, scale)


def save_each(field: Field, folder: Path, names: Sequence[str]) -> list[Path]:
    """Write each image as a PNG of its own size."""
    images, levels = _pixels.visible(field.element, field.values)
    paths = [folder / f"{name}{SUFFIX}" for name in names]
    return [_pixels.save(p, x[None], levels, 1, 1) for p, x in zip(paths, images, strict=True)]


def card(
    field: Field, alt: str, scale_with: Field | None = None, captions: Sequence[str] | None = None
) -> Html | None:
    """Draw a column of images for each class, or the first ones as drawn, with their captions."""
    del scale_with
    images, levels = _pixels.visible(field.element, field.values)
    if not len(images):
        return None
    if captions is not None:
        return _captioned(field, alt, captions)
    if field.labels is None:
        level = tag("div", tag("span", "\u00a0"), class_="labels", aria_hidden="true")
        return tag("div", level, _pixels.embed(images[:SHOWN], levels, 10, alt))
    order, classes = _columns(np.asarray(field.labels)[: len(images)])
    heads = tag("div", [tag("span", c) for c in classes], class_="labels", aria_hidden="true")
    return tag("div", heads, _pixels.embed(images[order], levels, len(classes), alt))


def _columns(labels: np.ndarray, per_class: int = 8, most: int = 10) -> tuple[list[int], np.ndarray]:
    """Return (rows in reading order, the classes): one column for each class, all of the same height."""
    classes = np.unique(labels)[:most]
    columns = [np.flatnonzero(labels == c)[:per_class] for c in classes]
    deep = min(len(c) for c in columns)
    return [int(c[r]) for r in range(deep) for c in columns], classes


def _captioned(field: Field, alt: str, captions: Sequence[str]) -> Html:
    """Draw each image above its caption."""
    some = field.first(min(CAPTIONED, len(captions)))
    figures = [
        tag("figure", picture, tag("figcaption", text))
        for picture, text in zip(tiles(some, alt), captions, strict=False)
    ]
    return tag("div", figures, class_="captioned")


def strip(field: Field, alt: str, count: int) -> Html | None:
    """Draw one row of samples in order of class, as two pictures: a phone shows the first alone."""
    images, levels = _pixels.visible(field.element, field.values)
    if not len(images):
        return None
    chosen = _pixels.by_class(field.labels, len(images), count)
    half = -(-count // 2)
    halves = [part for part in (chosen[:half], chosen[half:]) if part]
    drawn = [_pixels.embed(images[p], levels, half, "" if n else alt) for n, p in enumerate(halves)]
    return tag("div", drawn, class_="tiles")


def row(field: Field, count: int, height: int) -> Image.Image | None:
    """Draw one row of samples in order of class on a dark ground."""
    from PIL import Image

    images, levels = _pixels.visible(field.element, field.values)
    if not len(images):
        return None
    chosen = images[_pixels.by_class(field.labels, len(images), count)]
    gap = max(2, height // 9)
    scale = max(1, height // images.shape[1])
    drawn = _pixels.grid(chosen, levels, count, scale, gap=gap, background=MAT).convert("RGB")
    ground = Image.new("RGB", (drawn.width + 2 * gap, drawn.height + 2 * gap), (MAT, MAT, MAT))
    ground.paste(drawn, (gap, gap))
    return ground


def tiles(field: Field, alt: str) -> list[Html]:
    """Draw each image by itself."""
    images, levels = _pixels.visible(field.element, field.values)
    return [_pixels.embed(x[None], levels, 1, f"{alt}, {n}") for n, x in enumerate(images)]


def raw(field: Field) -> np.ndarray:
    """Return pixels in [0, 1], flattened: (N, H * W * C)."""
    values = np.asarray(field.values)
    flat = values.reshape(len(values), -1).astype(np.float32)
    return flat / max(field.element.levels - 1, 1) if field.element.levels else flat


def parse(given: str, name: str, element: Element, num: int, context: Any) -> dict[str, Any]:
    """Return `num` images of a folder (or of one file), repeated if there are fewer.

    Each is converted to the element's channels and levels; another size is cropped at the centre to the
    element's proportions and resized, which the log says.
    """
    del context
    found = _files.find(Path(given), f"--{OPTION}")
    images = np.stack([_files.read(path, element) for path in found[:num]])
    _files.tell(found[:num], element)
    return {name: images[np.arange(num) % len(images)]}
