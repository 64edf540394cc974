"""Generate tiny originals in the file formats of the real ones, for configs whose data is not embedded.

`write(folder)` fills a folder of originals as GENJAX_ORIGINALS names it: multi30k, jsb_chorales, emoji, mnist
and usps.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from genjax.music import notes

WORDS = {
    "en": "a man woman dog child sees finds a red small ball house tree",
    "de": "ein Mann Frau Hund Kind sieht findet ein rot klein Ball Haus Baum",
    "fr": "un homme femme chien enfant voit trouve un rouge petit balle maison arbre",
}
"""The same words in three languages; a caption takes one of each group below."""
GROUPS = ((0,), (1, 2, 3, 4), (5, 6), (7,), (8, 9), (10, 11, 12))
CAPTIONS = {"train": 240, "val": 48, "test_2016_flickr": 48}
PIECES = {"train": 40, "valid": 24, "test": 24}
RADII = {"google": 14, "twitter": 10}
"""Of the discs of each style of emoji, in pixels."""
VOICES = (72, 65, 60, 50)
"""MIDI pitches about which soprano, alto, tenor and bass move."""


def write(folder: Path) -> Path:
    """Write the originals below `folder`; return it."""
    write_multi30k(folder / "multi30k")
    write_chorales(folder / "jsb_chorales")
    write_emoji(folder / "emoji")
    write_mnist(folder / "mnist")
    write_usps(folder / "usps")
    return folder


def write_mnist(folder: Path, sizes: tuple[int, int] = (60, 30)) -> None:
    """Write the four idx files: a bar for each digit, in a place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for (part, count), seed in zip(zip(("train", "t10k"), sizes, strict=True), (0, 1), strict=True):
        images, labels = _bars(count, 28, seed)
        for name, array, sizes_of in (
            ("images-idx3", images, images.shape),
            ("labels-idx1", labels, (count,)),
        ):
            head = bytes((0, 0, 8, len(sizes_of))) + np.asarray(sizes_of, ">u4").tobytes()
            whole = gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(whole)


def write_usps(folder: Path, sizes: tuple[int, int] = (50, 20)) -> None:
    """Write usps.npz: bars like those of `write_mnist`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for (part, count), seed in zip(zip(("train", "test"), sizes, strict=True), (2, 3), strict=True):
        images, labels = _bars(count, 16, seed)
        arrays[f"x_{part}"] = (images / 127.5 - 1).astype(np.float32)
        arrays[f"y_{part}"] = labels.astype(np.uint8)
    np.savez(folder / "usps.npz", **arrays)


def _bars(count: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, side, side) with a bright row for each digit, and the digits."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = rng.integers(0, 60, (count, side, side))
    place = side // 5 + labels * (side * 3 // 5) // 10
    images[np.arange(count), place] += 180
    return images, labels


def write_emoji(folder: Path, count: int = 60) -> None:
    """Write emoji32_google_twitter.npz, discs of random colours in two sizes, and emoji_meta.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    colour = rng.integers(0, 256, (count, 1, 1, 3), np.uint8)
    across = np.hypot(*(np.indices((32, 32)) - 15.5))[None, ..., None]
    white = np.uint8(255)
    styles = {style: np.where(across < radius, colour, white) for style, radius in RADII.items()}
    np.savez(folder / "emoji32_google_twitter.npz", **styles)
    meta = [{"name": f"disc {i}", "category": f"kind {i % 3}"} for i in range(count)]
    (folder / "emoji_meta.json").write_text(json.dumps(meta))


def write_multi30k(folder: Path) -> None:
    """Write {train,val,test_2016_flickr}.{en,de,fr}.gz, one caption per line."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in CAPTIONS.items():
        # Captions end after the object at times, so that lengths differ.
        captions = [
            [int(rng.choice(group)) for group in GROUPS[: int(rng.integers(3, len(GROUPS) + 1))]]
            for _ in range(count)
        ]
        for language, sentence in WORDS.items():
            words = sentence.split()
            lines = "".join(" ".join(words[i] for i in caption) + ".\n" for caption in captions)
            (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


def write_chorales(folder: Path) -> None:
    """Write JSB_Chorales.mat (rolls at quarter notes) and jsb-chorales-16th.json (voices at sixteenths)."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pieces = {part: [_piece(rng) for _ in range(count)] for part, count in PIECES.items()}
    cells = {}
    for part, voices in pieces.items():
        column = np.empty((1, len(voices)), object)
        for i, piece in enumerate(voices):
            column[0, i] = notes.roll_of_voices(piece[::4])
        cells[f"{part}data"] = column
    savemat(folder / "JSB_Chorales.mat", cells)
    steps = {part: [piece.tolist() for piece in voices] for part, voices in pieces.items()}
    (folder / "jsb-chorales-16th.json").write_text(json.dumps(steps), "utf-8")


def _piece(rng: np.random.Generator) -> np.ndarray:
    """Return four voices (steps, 4) int16 of 3 to 6 bars, whose pitches change with the quarter notes."""
    quarters = 4 * int(rng.integers(3, 7))
    pitches = np.array(VOICES) + rng.integers(-3, 4, (quarters, 4))
    return np.repeat(pitches, 4, axis=0).astype(np.int16)
