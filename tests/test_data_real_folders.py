"""Folders and files as users have them: links, EXIF, Unicode names and lines, byte order marks, CRLF."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from test_data_errors import refused
from test_data_sources import make_folder, write_captions

import genjax.data as gd
from genjax.data import documents, images
from genjax.data.tokenizers import hf
from genjax.errors import DataError


def both(dataset) -> int:
    return len(dataset.train) + len(dataset.eval)


def test_a_class_named_train_is_one_of_the_classes(tmp_path: Path):
    root = make_folder(tmp_path, classes=("bus", "car", "train"))
    dataset = gd.load(name=f"folder:{root}")
    assert dataset.classes == ("bus", "car", "train")
    assert both(dataset) == 18


def test_images_beside_the_parts_are_never_dropped(tmp_path: Path):
    root = make_folder(tmp_path / "a" / "train").parent
    make_folder(root, classes=("extra",))
    refused(f"folder:{root}", "the part 'train'", "extra/0.png", "move")
    root = make_folder(tmp_path / "b", classes=("train", "test", "extra"))
    refused(f"folder:{root}", "extra/0.png")
    root = make_folder(tmp_path / "c", classes=("train",))
    (root / "train" / "0.png").rename(root / "stray.png")
    refused(f"folder:{root}", "stray.png", "outside the classes")


def test_parts_alone_are_parts(tmp_path: Path):
    root = make_folder(tmp_path / "a", classes=("train", "val", "test"))
    dataset = gd.load(name=f"folder:{root}")
    assert dataset.classes == ()
    assert (len(dataset.train), len(dataset.eval)) == (6, 6)


def test_links_are_followed(tmp_path: Path):
    real = make_folder(tmp_path / "real")
    root = tmp_path / "links"
    root.mkdir()
    for c in ("cat", "dog"):
        (root / c).symlink_to(real / c)
    linked = gd.load(name=f"folder:{root}")
    assert linked.classes == ("cat", "dog")
    assert linked.fingerprint == gd.load(name=f"folder:{real}").fingerprint
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words " * 50)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one").symlink_to(tmp_path / "texts")
    assert len(gd.load(name=f"text:{tmp_path / 'books'}", length=8).train)


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path):
    root = make_folder(tmp_path / "a")
    (root / "bird").symlink_to(tmp_path / "unmounted")
    refused(f"folder:{root}", "bird is a link to", "unmounted")
    (root / "bird").unlink()
    (root / "cat" / "again").symlink_to(root)
    refused(f"folder:{root}", "again is a link to a folder that contains it")
    (root / "cat" / "again").unlink()
    # Two folders, each with a link to the other: no path of one contains the other.
    for here, there in (("cat", "dog"), ("dog", "cat")):
        (root / here / "other").symlink_to(root / there)
    refused(f"folder:{root}", "other is a link to a folder that contains it")


def test_hidden_texts_are_left_out(tmp_path: Path):
    (tmp_path / "a.txt").write_text("words " * 50)
    (tmp_path / "._a.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    assert len(gd.load(name=f"text:{tmp_path}", length=8).train)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["png", "jpg", "webp", "tiff"])
def test_pictures_are_upright(tmp_path: Path, form: str, orientation: int):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 250
    pixels[8:, 16:] = (0, 0, 250)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = tmp_path / f"x.{form}"
    Image.fromarray(pixels).save(file, exif=exif)
    with Image.open(file) as image:
        upright = np.asarray(ImageOps.exif_transpose(image.convert("RGB") if form == "tiff" else image))
    shape = images.check([file], None)
    assert shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))
    np.testing.assert_array_equal(images.decode(file, shape, None), upright)


def test_damaged_metadata_leave_the_pixels(tmp_path: Path):
    file = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(file, exif=b"Exif\x00\x00MM\x00*\xff\xff")
    assert images.decode(file, images.check([file], None), None).shape == (4, 4, 3)


def test_too_many_pixels_name_the_file(tmp_path: Path, monkeypatch):
    root = make_folder(tmp_path)
    Image.new("L", (30, 30)).convert("RGB").save(root / "dog" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    refused(f"folder:{root}", "bomb.png has too many pixels", "make it smaller", size=8)


def test_an_image_that_changes_its_size_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("genjax.data.sources.folder.MEMORY", 0)
    root = make_folder(tmp_path)
    dataset = gd.load(name=f"folder:{root}")
    for c in ("cat", "dog"):
        for i in range(6):
            Image.new("RGB", (16, 4)).save(root / c / f"{i}.png")
    with pytest.raises(DataError, match=r"\.png is now 16x4 pixels instead of 8x8"):
        dataset.train.rows([0])


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_only_a_line_feed_ends_a_line_of_json(tmp_path: Path, separator: str):
    root = make_folder(tmp_path / "x", classes=("a",), each=3)
    text = f"one{separator}two"
    lines = [json.dumps({"file_name": f"a/{i}.png", "text": text}, ensure_ascii=False) for i in range(3)]
    write_captions(root, [line + " " * i for i, line in enumerate(lines)])
    dataset = gd.load(name=f"folder:{root}", length=20, tokenizer="chars")
    row = dataset.train.rows([0])
    assert dataset.tokenizer.decode(row["caption"][0][row["caption_mask"][0] > 0]) == text
    pair = json.dumps({"source": text, "target": text}, ensure_ascii=False)
    (tmp_path / "p.jsonl").write_text(f"{pair}\n" * 4, "utf-8")
    assert both(gd.load(name=f"pairs:{tmp_path / 'p.jsonl'}", length=40)) == 4


def test_captions_with_a_byte_order_mark_and_crlf(tmp_path: Path):
    root = make_folder(tmp_path, classes=("a",), each=3)
    lines = [json.dumps({"file_name": f"a/{i}.png", "text": "x"}) for i in range(3)]
    (root / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    assert both(gd.load(name=f"folder:{root}", length=4)) == 3


@pytest.mark.parametrize(("stored", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_in_either_unicode_form(tmp_path: Path, stored, named):
    c, other = (unicodedata.normalize(form, "café") for form in (stored, named))
    root = tmp_path / unicodedata.normalize(stored, "été")
    make_folder(root / "train", classes=(c,), each=3)
    make_folder(root / "test", classes=(other,), each=3)
    for part in ("train", "test"):
        write_captions(root / part, [{"file_name": f"{other}/{i}.png", "text": str(i)} for i in range(3)])
    dataset = gd.load(name=f"folder:{tmp_path}/{unicodedata.normalize(named, 'été')}", length=4)
    assert dataset.classes == (unicodedata.normalize("NFC", "café"),)
    assert both(dataset) == 6


def test_crlf_separates_documents_as_lf_does(tmp_path: Path):
    assert documents.split(["a\r\nb\r\n\r\nc\n\nd"], "\n\n") == ["a\r\nb", "c", "d"]
    assert documents.split(["a.b\r\n"], ".") == ["a", "b\r\n"]
    assert documents.split(["a\nb"], "\n") == ["a", "b"]
    (tmp_path / "a.txt").write_bytes(b"some words\r\nof text\r\n\r\n" * 20)
    dataset = gd.load(name=f"text:{tmp_path}", documents="\n\n", length=8)
    assert "20 documents" in dataset.info or "18 and 2 documents" in dataset.info


def test_files_with_a_byte_order_mark(tmp_path: Path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    text = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")).to_str()
    (tmp_path / "tokenizer.json").write_text(text, "utf-8-sig")
    assert hf.read(tmp_path).vocabulary == 2
