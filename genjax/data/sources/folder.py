"""Load images in PATH, or in PATH/train and PATH/test: folder:PATH.

Subfolders are classes, in order of their names. A subfolder `train` with images and no subfolders, beside
other subfolders of images and without a test part, is a class too. Captions are read from a metadata.jsonl
beside the images, with one {"file_name": ..., "text": ...} per line. They are the element `caption`
(data.length tokens, padded), with `caption_mask` (1 on its tokens). All images must have one size, unless
data.size gives the side of the square to which they are cropped and resized. Of several evaluation parts
(test, eval, val, valid, validation) the first is read, and the description names the others. Without one, a
fixed random data.eval_fraction of the images is held out. Images are turned upright (EXIF).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from genjax.data import images
from genjax.data.config import Config
from genjax.data.dataset import digest
from genjax.data.listing import composed
from genjax.data.load import Loaded
from genjax.data.progress import progress
from genjax.data.rows import Arrays
from genjax.data.sources import _captions
from genjax.data.sources._files import existing
from genjax.data.sources._split import stratified
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "folder:PATH"
HELD = ("test", "eval", "val", "valid", "validation")
MEMORY = 1 << 30
"""Images are decoded once, when the dataset is loaded, up to this many bytes of pixels."""


def load(config: Config, argument: str) -> Loaded:
    """Return images, with labels and captions if there are any.

    Raises:
      DataError: a file that is missing, unreadable, or of another size or number of channels (the first one
        is named); an empty folder; images both inside and outside of classes; an invalid metadata.jsonl.
    """
    root = existing(argument, "folder")
    if not root.is_dir():
        raise DataError(f"folder: {root} is a file", "name the folder of the images")
    parts = _parts(root)
    files = {part: images.find(folder) for part, folder in parts.items()}
    classes = sorted({c for part, folder in parts.items() for c in _classes(folder, files[part])})
    columns = {part: _columns(folder, files[part], classes) for part, folder in parts.items()}
    tokenizer = _captions.columns(config, parts, files, columns)
    everything = [f for found in files.values() for f in found]
    shape = images.check(everything, config.size)
    train, held = _divided(config, files, columns)
    pixels = sum(len(part[0]) for part in (train, held)) * int(np.prod(shape))
    rows = [images.Images(part[0], part[1], shape, config.size) for part in (train, held)]
    elements = _elements(config, shape, classes, tokenizer)
    info = f"{len(everything):,} images in {root}{_unread(root, parts)}"
    if pixels > MEMORY:
        content = _sums(everything) + digest(*(c for r in rows for c in r.columns.values()))
        return Loaded(elements, rows[0], rows[1], content, tokenizer, tuple(classes), info)
    decoded = [Arrays(images.decode_all(r)) for r in rows]
    content = digest(*(c for r in decoded for c in r.columns.values()))
    return Loaded(elements, decoded[0], decoded[1], content, tokenizer, tuple(classes), info)


def _elements(
    config: Config, shape: tuple[int, ...], classes: list[str], tokenizer: Tokenizer | None
) -> dict[str, Element]:
    """Return the elements of a row; the caption mask accompanies the caption and has no kind."""
    elements = {"image": Element(shape, "uint8", 256, "image", "target")}
    if classes:
        elements["label"] = Element((), "int32", len(classes), "label", "condition")
    if tokenizer:
        elements["caption"] = Element((config.length,), "int32", tokenizer.vocabulary, "caption", "condition")
        elements["caption_mask"] = Element((config.length,), "float32", role="condition")
    return elements


def _parts(root: Path) -> dict[str, Path]:
    """Return {part: folder}: both parts if the root has them, else the training part alone."""
    held = next((root / name for name in HELD if (root / name).is_dir()), None)
    train = root / "train"
    if not train.is_dir():
        return {"train": root}
    others = [f for f in images.find(root) if f.relative_to(root).parts[0] not in ("train", *HELD)]
    if not others:
        return {"train": train, "eval": held} if held else {"train": train}
    # Beside other classes, `train` is the class of trains, if it looks like one: images and no subfolders.
    if held or any(f.parent != train for f in images.find(train)):
        raise DataError(
            f"{root} has the part {train.name!r}, and images outside of its parts, such as {others[0]}",
            "move these images into a part, or out of the folder",
        )
    return {"train": root}


def _unread(root: Path, parts: dict[str, Path]) -> str:
    """Return what is said of evaluation parts beside the one that is read."""
    if "eval" not in parts:
        return ""
    others = [name for name in HELD if (root / name).is_dir() and root / name != parts["eval"]]
    return "".join(f"; the part {name!r} is not read" for name in others)


def _classes(folder: Path, files: list[Path]) -> set[str]:
    """Return the names of the subfolders with images; an empty set if all images are in the folder itself."""
    inside = [f for f in files if f.parent != folder]
    outside = [f for f in files if f.parent == folder]
    if inside and outside:
        raise DataError(
            f"{outside[0]} is outside the classes of the other images, such as {inside[0].parent}",
            "put every image into the folder of a class, or all into one folder",
        )
    return {_class(folder, f) for f in inside}


def _class(folder: Path, file: Path) -> str:
    """Return the name of the subfolder with an image, in Unicode's form NFC, so that parts share classes."""
    return composed(file.relative_to(folder).parts[0])


def _columns(folder: Path, files: list[Path], classes: list[str]) -> dict[str, np.ndarray]:
    """Return the labels of images as a column; no column without classes."""
    if not classes:
        return {}
    names = [_class(folder, f) if f.parent != folder else "" for f in files]
    if "" in names:
        raise DataError(
            f"{files[names.index('')]} has no class, but the images of the other part have classes",
            "use folders of the same classes in both parts",
        )
    return {"label": np.array([classes.index(n) for n in names], np.int32)}


Part = tuple[list[Path], dict[str, np.ndarray]]
"""The files of a part and its other columns."""


def _divided(
    config: Config, files: dict[str, list[Path]], columns: dict[str, dict[str, np.ndarray]]
) -> tuple[Part, Part]:
    """Return both parts; rows are held out if the folder has no evaluation part."""
    if "eval" in files:
        return (files["train"], columns["train"]), (files["eval"], columns["eval"])
    found = files["train"]
    whole = columns["train"]
    labels = whole.get("label", np.zeros(len(found), np.int32))
    if len(found) < 2:
        raise DataError(f"{found[0]} is the only image", "add another one: one is held out to evaluate with")
    held = int(np.clip(round(len(found) * config.eval_fraction), 1, len(found) - 1))
    train, test = (
        ([found[i] for i in index], {k: v[index] for k, v in whole.items()})
        for index in stratified(labels, held)
    )
    return train, test


def _sums(files: list[Path]) -> str:
    """Return a digest of the content of files, without decoding them."""

    def one(file: Path) -> bytes:
        return hashlib.sha256(file.read_bytes()).digest()

    h = hashlib.sha256()
    with ThreadPoolExecutor(8) as pool:
        for part in progress(pool.map(one, files), len(files), "reading images for the fingerprint"):
            h.update(part)
    return h.hexdigest()
