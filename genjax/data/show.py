"""A dataset as a person sees it: a table of what it is, and a picture (or a page) of what is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from genjax.data.dataset import Dataset, Split
from genjax.data.pairs import Pairs
from genjax.data.permutation import permute
from genjax.data.rows import Zipped
from genjax.music import notes
from genjax.music.save import is_music, pieces, roll_picture
from genjax.spec import Element

_INK = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75))


def describe(dataset: Dataset) -> str:
    """A readable table: where it is from, sizes, elements, counts of classes, fingerprint."""
    config = dataset.config
    lines = [("dataset", dataset.name), ("what", dataset.info)]
    lines += [("rows", f"{len(dataset.train):,} to train, {len(dataset.eval):,} to evaluate")]
    epoch = dataset.train.stream(config.order, config.batch, config.seed).steps_per_epoch
    lines += [("epoch", f"{epoch:,.1f} batches of {config.batch} ({config.order})")]
    if isinstance(dataset.train.source, Pairs):
        lines += [("lengths", _lengths(dataset.train.source))]
    some = dataset.train.rows(_some(dataset.train, 512))
    lines += [(name, _element(e, some[name])) for name, e in dataset.spec.elements.items()]
    lines += _classes(dataset) + _music(dataset)
    if dataset.tokenizer:
        lines += [("tokenizer", f"{dataset.tokenizer.kind}, {dataset.tokenizer.vocabulary} tokens")]
    lines += [("fingerprint", dataset.fingerprint)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in lines)


def _music(dataset: Dataset) -> list[tuple[str, str]]:
    """How many voices sound at once, and between which pitches, in up to 512 rows."""
    rows = dataset.train.rows(_some(dataset.train, 512))
    if not is_music(rows, dataset.tokenizer):
        return []
    found = pieces(rows, dataset.tokenizer)  # type: ignore[arg-type]
    pitches = [n.pitch for p in found for n in p.notes] or [0]
    sounding = sum(n.end - n.start for p in found for n in p.notes) / max(sum(p.steps for p in found), 1)
    between = f"{notes.name(min(pitches))} to {notes.name(max(pitches))}"
    return [("music", f"{sounding:.2f} notes at once on average, from {between}")]


def _lengths(rows: Pairs) -> str:
    """How long the two sides are, and how many pairs each bucket has."""
    sides = (("source", rows.source.lengths[rows.index]), ("target", rows.target.lengths[rows.index]))
    out = [f"{name} {n.mean():.1f} tokens on average, at most {n.max()}" for name, n in sides]
    if rows.buckets:
        counts = np.bincount(np.searchsorted(rows.buckets, rows.sizes), minlength=len(rows.buckets))
        counted = (f"{b}: {c:,}" for b, c in zip(rows.buckets, counts, strict=True))
        out += ["pairs of each bucket " + "  ".join(counted)]
    return "; ".join(out)


def _some(split: Split, n: int, seed: int = 0) -> np.ndarray:
    """n rows, spread over the split by chance, always the same."""
    return permute(len(split), seed, 0, np.arange(min(n, len(split))))


def _element(e: Element, x: np.ndarray) -> str:
    form = "x".join(map(str, e.shape)) or "scalar"
    levels = f" in [0, {e.levels})" if e.levels else ""
    seen = f"{x.min():.4g} to {x.max():.4g}"
    return f"{form} {e.dtype}{levels}, seen {seen}"


def _classes(dataset: Dataset) -> list[tuple[str, str]]:
    """Rows of each class, where they are in memory and few enough to count and to show."""
    out: list[tuple[str, str]] = []
    if isinstance(dataset.train.source, Zipped):
        return out
    for name, e in dataset.spec.elements.items():
        if name != "label" or not e.levels:
            continue
        names = dataset.classes if len(dataset.classes) == e.levels else tuple(map(str, range(e.levels)))
        for split in (dataset.train, dataset.eval):
            if not split.source.memory or e.levels > 100:
                continue
            counts = np.zeros(e.levels, np.int64)
            for first in range(0, len(split), 1 << 14):
                rows = split.rows(np.arange(first, min(first + (1 << 14), len(split))))
                counts += np.bincount(rows[name], minlength=e.levels)
            shown = "  ".join(f"{n}: {c}" for n, c in zip(names, counts, strict=True))
            out.append((f"{name}, {split.name}", shown))
    return out


def preview(dataset: Dataset, n: int = 64, seed: int = 0) -> Image.Image | str:
    """n training rows, drawn by chance: a grid of images (the domains of a zip side by side), a scatter of
    points coloured by label, the piano rolls of the first twelve, or text.

    Raises:
      ValueError: where no element can be shown.
    """
    rows = dataset.train.rows(_some(dataset.train, n, seed))
    if is_music(rows, dataset.tokenizer):
        few = {k: v[:12] for k, v in rows.items()}
        return roll_picture(few, dataset.tokenizer)  # type: ignore[arg-type]
    images = [k for k in dataset.spec.elements if k.split("_")[0] == "image"]
    if images:
        return _beside([grid(rows[k], dataset.spec[k].levels or 256) for k in images])
    for k in dataset.spec.elements:
        if k.split("_")[0] == "point":
            return scatter(rows[k], rows.get(k.replace("point", "label")))
    if "target" in dataset.spec and dataset.tokenizer:
        read = dataset.tokenizer.decode
        return "\n".join(
            f"[{i}] {read(s)} → {read(t)}"
            for i, (s, t) in enumerate(zip(rows["source"], rows["target"], strict=True))
        )
    if "tokens" in dataset.spec and dataset.tokenizer:
        return "\n".join(f"[{i}] {dataset.tokenizer.decode(t)!r}" for i, t in enumerate(rows["tokens"]))
    raise ValueError(f"nothing to show among {sorted(dataset.spec.elements)}")


def grid(images: np.ndarray, levels: int) -> Image.Image:
    """Images (N, H, W, C) in [0, levels) as one picture, near to square, small ones enlarged."""
    n, h, w, c = images.shape
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    gap = max(h // 14, 1)
    page = np.full((down * (h + gap) + gap, across * (w + gap) + gap, 3), 255, np.uint8)
    bright = np.round(images.astype(np.float32) * (255 / (levels - 1))).astype(np.uint8)
    for i, x in enumerate(bright):
        top, left = gap + i // across * (h + gap), gap + i % across * (w + gap)
        page[top : top + h, left : left + w] = x if c == 3 else x[..., :3] if c > 3 else x[..., :1]
    picture = Image.fromarray(page)
    scale = max(1, 512 // max(picture.size))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def scatter(points: np.ndarray, labels: np.ndarray | None = None, side: int = 512) -> Image.Image:
    """Points (N, 2) on a white square, equal scales on both axes, coloured by label."""
    page = np.full((side, side, 3), 255, np.uint8)
    xy = points[:, :2]
    middle, reach = (xy.min(0) + xy.max(0)) / 2, max(float(np.ptp(xy, axis=0).max()), 1e-6) * 0.55
    at = ((xy - middle) / reach * 0.5 + 0.5) * (side - 1)
    column, row = np.round(at).astype(int).T
    ink = np.array(_INK, np.uint8)[(np.zeros(len(xy), int) if labels is None else labels) % len(_INK)]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            page[(side - 1 - row + dy).clip(0, side - 1), (column + dx).clip(0, side - 1)] = ink
    return Image.fromarray(page)


def _beside(pictures: list[Image.Image]) -> Image.Image:
    if len(pictures) == 1:
        return pictures[0]
    height = max(p.height for p in pictures)
    page = Image.new("RGB", (sum(p.width for p in pictures) + 16 * (len(pictures) - 1), height), "white")
    left = 0
    for p in pictures:
        page.paste(p, (left, 0))
        left += p.width + 16
    return page


def texts(tokenizer: Any, rows: Mapping[str, np.ndarray], element: str) -> list[str]:
    """Rows of tokens as text, each up to its length where the rows say it, without its end mark."""
    lengths = rows.get("length" if element == "tokens" else f"{element}_length", [None] * len(rows[element]))
    eos = tokenizer.special.get("eos")
    out = []
    for row, length in zip(rows[element], lengths, strict=True):
        row = np.asarray(row)[:length]
        if eos is not None and element != "tokens" and (row == eos).any():
            row = row[: int(np.argmax(row == eos))]
        out.append(tokenizer.decode(row))
    return out
