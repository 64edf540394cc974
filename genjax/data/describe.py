"""Describe a dataset: a table of its properties, and a picture (or a text) of some rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genjax import kinds
from genjax.data.dataset import Dataset, Split
from genjax.data.permutation import permute
from genjax.spec import Element

if TYPE_CHECKING:
    from PIL import Image

SAMPLED = 512
"""Training rows that a description reads."""
COUNTED = 100
"""Rows are counted by class up to this number of classes."""
GAP = 16
"""Pixels between two pictures side by side."""


def describe(dataset: Dataset) -> str:
    """Return a table: source, sizes, elements, rows of each class, fingerprint."""
    some = dataset.train.rows(_some(dataset.train, SAMPLED))
    lines = [("dataset", dataset.name), ("what", dataset.info), *_sizes(dataset)]
    lines += [(name, _element(e, some[name])) for name, e in dataset.spec.elements.items()]
    lines += _counts(dataset)
    for field, kind in kinds.fields(
        dataset.spec, some, list(dataset.spec.elements), dataset.tokenizer, dataset.classes
    ):
        lines += kind.describe(field)
    if dataset.tokenizer:
        lines += [("tokenizer", f"{dataset.tokenizer.kind}, {dataset.tokenizer.vocabulary} tokens")]
    lines += [("fingerprint", dataset.fingerprint)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in lines)


def preview(dataset: Dataset, n: int = 64, seed: int = 0) -> Image.Image | str:
    """Show `n` random training rows: each target and condition in the form of its kind.

    Pictures are placed side by side. If there are none, the texts are joined.

    Raises:
      ValueError: no element can be shown.
    """
    spec = dataset.spec
    rows = dataset.train.rows(_some(dataset.train, n, seed))
    about = (dataset.tokenizer, dataset.classes)
    texts = kinds.captions(kinds.fields(spec, rows, spec.conditions, *about))
    beside = kinds.pictures(kinds.fields(spec, rows, spec.conditions, *about))
    targets = kinds.fields(spec, rows, spec.targets, *about)
    drawn = [kind.preview(field, texts) for field, kind in (*beside, *targets)]
    pictures = [d for d in drawn if d is not None and not isinstance(d, str)]
    written = [d for d in drawn if isinstance(d, str)]
    if not pictures and not written:
        raise ValueError(f"nothing to show among {sorted(spec.elements)}")
    return _side_by_side(pictures) if pictures else "\n\n".join(written)


def _some(split: Split, n: int, seed: int = 0) -> np.ndarray:
    """Return the indices of n random rows: the same for the same seed."""
    return permute(len(split), seed, 0, np.arange(min(n, len(split))))


def _sizes(dataset: Dataset) -> list[tuple[str, str]]:
    config = dataset.config
    epoch = dataset.train.stream(config.order, config.batch, config.seed).steps_per_epoch
    lines = [("rows", f"{len(dataset.train):,} to train, {len(dataset.eval):,} to evaluate")]
    lines += [("epoch", f"{epoch:,.1f} batches of {config.batch} ({config.order})")]
    lines += dataset.train.source.describe()
    return lines


def _element(e: Element, x: np.ndarray) -> str:
    form = "x".join(map(str, e.shape)) or "scalar"
    levels = f" in [0, {e.levels})" if e.levels else ""
    return f"{form} {e.dtype}{levels}, seen {x.min():.4g} to {x.max():.4g}"


def _counts(dataset: Dataset) -> list[tuple[str, str]]:
    """Return the number of rows of each class, for splits in memory with few classes."""
    name = dataset.spec.label
    levels = dataset.spec.classes()
    if name is None or not 0 < levels <= COUNTED:
        return []
    names = dataset.classes if len(dataset.classes) == levels else tuple(map(str, range(levels)))
    out = []
    for split in (dataset.train, dataset.eval):
        if split.source.memory:
            counts = _count(split, name, levels)
            shown = "  ".join(f"{n}: {c}" for n, c in zip(names, counts, strict=True))
            out.append((f"{name}, {split.name}", shown))
    return out


def _count(split: Split, name: str, levels: int, block: int = 1 << 14) -> np.ndarray:
    """Return the number of rows of each class, reading `block` rows at a time."""
    counts = np.zeros(levels, np.int64)
    for first in range(0, len(split), block):
        rows = split.rows(np.arange(first, min(first + block, len(split))))
        counts += np.bincount(rows[name], minlength=levels)
    return counts


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    from PIL import Image

    if len(pictures) == 1:
        return pictures[0]
    height = max(p.height for p in pictures)
    width = sum(p.width for p in pictures) + GAP * (len(pictures) - 1)
    page = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width + GAP
    return page
