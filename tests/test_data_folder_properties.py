"""Folders with any names, links, hidden files and captions: every image and text is used once, or named."""

from __future__ import annotations

import json
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

import genjax.data as gd
from genjax.data import documents, images
from genjax.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
ORDINARY = ("bus", "car", NFC, NFD, "a b", "100%", "x.png", "Train", "é\u2028", "[z]", "-1")
SPECIAL = ("train", "test", "val", ".hidden", "_x", "")
FILES = ("0.png", "1.PNG", "2.bmp", ".hidden.png", "._0.png", "x.txt", NFD + ".png", "a b.png", "empty.png")
BREAKS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\n\t "
"""Characters at which str.splitlines divides a text, among others."""
TEXT = st.text(st.sampled_from('aé😀\0\ufeff"\\{' + BREAKS), min_size=1, max_size=12)
small = settings(max_examples=60)


def _joined(folders: tuple[str, str]) -> str:
    return "/".join(f for f in folders if f)


@st.composite
def trees(draw: st.DrawFn, folders: tuple[str, ...]) -> dict[str, list[str]]:
    """Return {folder: its files}, some of them folders in folders."""
    names = st.sampled_from(folders)
    chosen = draw(st.lists(names | st.tuples(names, names).map(_joined), min_size=1, max_size=4, unique=True))
    return {f: draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=4, unique=True)) for f in chosen}


def write(root: Path, tree: dict[str, list[str]], linked: bool) -> dict[Path, int]:
    """Write a tree, each image of a grey level of its own; return {image to be used: level}."""
    found: dict[Path, int] = {}
    for folder, files in tree.items():
        place = root / folder
        if linked and folder and not place.exists():
            target = root.parent / f"elsewhere{len(found)}-{len(list(root.parent.iterdir()))}"
            target.mkdir()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            file = place / name
            if name == "empty.png":
                file.write_bytes(b"")
            elif name == "x.txt":
                file.write_text("x")
            else:
                level = len(found)
                Image.new("L", (2, 2), level).save(file)
                if not any(part.startswith(".") for part in file.relative_to(root).parts):
                    found[file] = level
    return found


def levels(dataset) -> list[int]:
    """Return the grey level of every image, with that of no image left out."""
    rows = [split.rows(np.arange(len(split))) for split in (dataset.train, dataset.eval)]
    return sorted(int(x[0, 0, 0]) for part in rows for x in part["image"])


@small
@given(tree=trees(ORDINARY), linked=st.booleans())
def test_folders_are_classes_whatever_their_names(tree: dict[str, list[str]], linked: bool):
    tree = {folder: [f for f in files if f != "empty.png"] for folder, files in tree.items()}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        found = write(root, tree, linked)
        if len(found) < 2:
            with pytest.raises(DataError, match=r"no image|only image"):
                gd.load(name=f"folder:{root}")
            return
        dataset = gd.load(name=f"folder:{root}")
        assert levels(dataset) == sorted(found.values())
        used = {unicodedata.normalize("NFC", f.relative_to(root).parts[0]) for f in found}
        assert dataset.classes == tuple(sorted(used))


@small
@given(tree=trees((*ORDINARY[:4], *SPECIAL)), linked=st.booleans())
def test_no_image_is_left_out_in_silence(tree: dict[str, list[str]], linked: bool):
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        found = write(root, tree, linked)
        try:
            dataset = gd.load(name=f"folder:{root}")
        except DataError as error:
            refused = error
        else:
            refused = None
        if refused is None:
            unread = [f for f in found if f"{f.relative_to(root).parts[0]!r} is not read" in dataset.info]
            assert levels(dataset) == sorted(level for f, level in found.items() if f not in unread)
            unread_parts = {f.relative_to(root).parts[0] for f in unread}
            for folder, files in tree.items():
                hidden = "/." in f"/{folder}" or folder.split("/")[0] in unread_parts
                assert hidden or "empty.png" not in files
        else:
            assert str(root) in refused.message
            assert refused.hint


@small
@given(
    texts=st.lists(TEXT, min_size=2, max_size=5),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    forms=st.tuples(st.sampled_from(["NFC", "NFD"]), st.sampled_from(["NFC", "NFD"])),
    escaped=st.booleans(),
)
def test_captions_are_read_as_they_were_written(texts, mark, end, forms, escaped):
    stored, named = forms
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        lines = []
        for i, text in enumerate(texts):
            Image.new("L", (2, 2), i).save(root / unicodedata.normalize(stored, f"é{i}.png"))
            line = {"file_name": unicodedata.normalize(named, f"é{i}.png"), "text": text}
            lines.append(json.dumps(line, ensure_ascii=escaped) + end)
        (root / "metadata.jsonl").write_bytes((mark + "".join(lines)).encode())
        dataset = gd.load(name=f"folder:{root}", tokenizer="chars", length=16)
        for split in (dataset.train, dataset.eval):
            rows = split.rows(np.arange(len(split)))
            for image, caption, used in zip(
                rows["image"], rows["caption"], rows["caption_mask"], strict=True
            ):
                assert dataset.tokenizer.decode(caption[used > 0]) == texts[image[0, 0, 0]]


@small
@given(
    texts=st.lists(TEXT, min_size=1, max_size=4),
    marks=st.lists(st.sampled_from(["", "\ufeff"]), min_size=4, max_size=4),
    extra=st.sets(st.sampled_from([".hidden.txt", "._a.txt", "empty.txt", "z.md"])),
    linked=st.booleans(),
)
def test_texts_are_read_as_they_were_written(texts, marks, extra, linked):
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        (Path(scratch) / "real").mkdir()
        if linked:
            root.symlink_to(Path(scratch) / "real")
        root.mkdir(exist_ok=True)
        contents = [(mark + text * 30).encode() for mark, text in zip(marks, texts, strict=False)]
        for i, content in enumerate(contents):
            (root / f"{i}.txt").write_bytes(content)
        for name in extra:
            (root / name).write_bytes(b"" if name == "empty.txt" else b"\xff\xfe")
        dataset = gd.load(name=f"text:{root}", length=2)
        rows = dataset.train.rows(np.arange(len(dataset.train)))["tokens"]
        read = bytes([*rows[:, :-1].ravel().tolist(), int(rows[-1, -1])])
        whole = "\n".join([c.decode("utf-8-sig") for c in contents] + ([""] if "empty.txt" in extra else []))
        assert whole.encode().startswith(read)
        assert len(read) > 0.8 * len(whole.encode()) - 8


@settings(max_examples=200)
@given(
    text=st.text(st.sampled_from("ab.\n-"), max_size=30),
    separator=st.sampled_from(["\n", "\n\n", ".", "\n---\n", "ab", "-\n"]),
)
def test_crlf_separates_documents_where_lf_does(text: str, separator: str):
    crlf = documents.split([text.replace("\n", "\r\n")], separator)
    assert crlf == [d.replace("\n", "\r\n") for d in documents.split([text], separator)]
    assert documents.split([text], separator) == [d for d in text.split(separator) if d]


@small
@given(
    orientation=st.integers(0, 9),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 99),
    mode=st.sampled_from(["L", "RGB", "RGBA"]),
)
def test_every_picture_is_upright(orientation: int, size: tuple[int, int], seed: int, mode: str):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "x.png"
        Image.fromarray(pixels).save(file, exif=exif)
        with Image.open(file) as image:
            upright = np.asarray(ImageOps.exif_transpose(image)).reshape(-1, *channels)
        shape = images.check([file], None)
        np.testing.assert_array_equal(images.decode(file, shape, None).reshape(upright.shape), upright)
