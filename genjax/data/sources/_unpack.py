"""Unpack a dataset that TFDS has prepared: image and label columns as .npy files, or text as one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genjax.data.dataset import digest
from genjax.data.images import square
from genjax.data.progress import progress
from genjax.errors import DataError

if TYPE_CHECKING:
    from genjax.data.prepare import Request

HELD = ("validation", "test", "valid", "val", "eval", "dev")
"""Names of evaluation splits, in order of preference."""
BLOCK = 1000
"""Rows that are read at once: reading them one by one takes three times as long."""


class Features(NamedTuple):
    """Name the features to read; None for each that the dataset lacks."""

    image: str | None
    label: str | None
    text: str | None


def unpack(builder: Any, request: Request, into: Path) -> dict[str, Any]:
    """Write the columns of both splits into a folder and return the content of columns.json.

    Raises:
      DataError: an unknown split, features that are neither image nor text, or images of several sizes.
    """
    splits = _splits(builder, request)
    features = _features(builder, request.feature)
    about = builder.info.features[features.label] if features.label else None
    sums: list[str] = []
    shape: tuple[int, ...] | None = None
    for part, split in splits.items():
        source = builder.as_data_source(split)
        rows = progress(_rows(source), len(source), f"unpacking {part}")
        if features.image:
            pixels, labels = _images(rows, len(source), features, into, part, request, shape)
            shape = pixels.shape[1:]
            sums.append(digest(pixels, labels))
        else:
            texts = (_decoded(row[features.text]) for row in rows)
            sums.append(write_text(texts, into / f"{part}.txt"))
    return {
        "name": str(builder.info.full_name),
        "kind": "image" if features.image else "text",
        "splits": splits,
        "classes": list(about.names or ()) if about else [],
        "labels": about.num_classes if about else 0,
        "digest": hashlib.sha256(" ".join(sums).encode()).hexdigest(),
    }


def _rows(source: Any) -> Iterator[Any]:
    """Yield all rows in order."""
    for first in range(0, len(source), BLOCK):
        yield from source.__getitems__(list(range(first, min(first + BLOCK, len(source)))))


def _splits(builder: Any, request: Request) -> dict[str, str]:
    """Return {part: name of its split}; without "eval" if the dataset has no evaluation split."""
    known = list(builder.info.splits)
    wanted = request.eval_split
    missing = [name for name in ("train", *(wanted or "train").split("+")) if name not in known]
    if missing:
        raise DataError(
            f"tfds:{request.name} has no split {missing[0]!r}", f"its splits are {', '.join(known)}"
        )
    held = wanted or next((name for name in HELD if name in known), None)
    return {"train": "train", **({"eval": held} if held else {})}


def _features(builder: Any, wanted: str | None) -> Features:
    """Choose the features to read. Labels are read only beside images."""
    import tensorflow_datasets as tfds

    features = builder.info.features

    def of(cls: type) -> list[str]:
        return [name for name, feature in features.items() if isinstance(feature, cls)]

    found = {"image": of(tfds.features.Image), "text": of(tfds.features.Text)}
    choices = [name for names in found.values() for name in names]
    if not choices or (wanted and wanted not in choices):
        lacks = f"the image or text feature {wanted!r}" if wanted else "image or text features"
        raise DataError(
            f"tfds:{builder.name} has no {lacks}; its features are {', '.join(features)}",
            f"set data.feature to one of {', '.join(choices)}"
            if choices
            else "export the data to files, and read them with folder: or text:",
        )
    if wanted:
        found = {kind: [name for name in names if name == wanted] for kind, names in found.items()}
    image = _pick(builder, "image", found["image"])
    text = _pick(builder, "text", found["text"])
    labels = of(tfds.features.ClassLabel) if image else []
    return Features(image, next(iter(_preferred(builder, "label", labels) + labels), None), text)


def _preferred(builder: Any, kind: str, names: list[str]) -> list[str]:
    """Return the features that have the kind's own name, then those that TFDS marks as supervised."""
    supervised = [k for k in builder.info.supervised_keys or () if isinstance(k, str)]
    return [k for k in names if k.lower() == kind] + [k for k in supervised if k in names]


def _pick(builder: Any, kind: str, names: list[str]) -> str | None:
    """Return the preferred feature, or the only one; None if there is none."""
    preferred = _preferred(builder, kind, names)
    if len(names) > 1 and not preferred:
        raise DataError(
            f"tfds:{builder.name} has several {kind} features: {', '.join(names)}",
            "set data.feature to the one to read",
        )
    return next(iter(preferred + names), None)


def _images(
    rows: Iterator[Any],
    count: int,
    features: Features,
    into: Path,
    part: str,
    request: Request,
    shape: tuple[int, ...] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Write the images and labels of a part and return them; without a label feature all labels are 0.

    Args:
      count: the number of rows.
      shape: (H, W, C) of every image; None for that of the first one.
    """
    pixels: np.ndarray | None = None
    labels = np.zeros(count, np.int32)
    for i, row in enumerate(rows):
        x = _sized(np.asarray(row[features.image]), request)
        shape = shape or x.shape
        if x.shape != shape:
            raise DataError(
                f"tfds:{request.name}: image {i} of {part} is {x.shape}, but the first is {shape}",
                "set data.size to crop and resize all images to one square",
            )
        if pixels is None:
            pixels = np.lib.format.open_memmap(into / f"{part}-image.npy", "w+", np.uint8, (count, *shape))
        pixels[i] = x
        if features.label:
            labels[i] = row[features.label]
    if pixels is None:
        raise DataError(f"tfds:{request.name} has no rows in {part}")
    pixels.flush()  # type: ignore[attr-defined]
    if features.label:
        np.save(into / f"{part}-label.npy", labels)
    return pixels, labels


def _sized(x: np.ndarray, request: Request) -> np.ndarray:
    """Return an image (H, W, C), cropped and resized if the request gives a size."""
    if x.dtype != np.uint8:
        raise DataError(f"tfds:{request.name} has {x.dtype} images", "only 8-bit images can be read")
    if request.size is None or x.shape[:2] == (request.size, request.size):
        return x
    from PIL import Image

    picture = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
    return np.asarray(square(picture, request.size)).reshape(request.size, request.size, x.shape[-1])


def _decoded(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def write_text(texts: Iterator[str], path: Path) -> str:
    """Write texts to one file, separated by line feeds, and return the sha256 (hex) of the file.

    The byte offsets at which the texts end are saved beside it, in NAME-ends.npy.
    """
    h = hashlib.sha256()
    ends: list[int] = []
    at = 0
    with path.open("wb") as file:
        for i, text in enumerate(texts):
            raw = ("\n" if i else "").encode() + text.encode()
            file.write(raw)
            h.update(raw)
            at += len(raw)
            ends.append(at)
    np.save(path.with_name(f"{path.stem}-ends.npy"), np.array(ends, np.int64))
    return h.hexdigest()
