"""Bad data is one DataError that names the thing and how to mend it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_sources import make_folder, write_captions

import genjax.data as gd
from genjax.errors import ConfigError, DataError


def refused(name: str, *says: str, **config) -> None:
    with pytest.raises(DataError) as caught:
        gd.load(name=name, **config)
    for part in says:
        assert part in str(caught.value), str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digit", ["'digit'", "did you mean 'digits'", "tfds:NAME"]),
        ("_split", ["unknown dataset '_split'"]),
        ("zip:digits", ["zip: needs two datasets"]),
        ("zip:digits,moon", ["unknown dataset 'moon'"]),
        ("tfds:", ["tfds:NAME"]),
        ("text:", ["text:PATH"]),
        ("folder:", ["folder:PATH"]),
    ],
)
def test_names_that_are_not_known(name: str, says: list[str]):
    refused(name, *says)


def test_paths_that_are_not_there(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    refused(f"folder:{tmp_path}/picture", "did you mean 'pictures'")
    refused(f"text:{tmp_path}/deep/er/a.txt", f"{tmp_path} is the part of the path that exists")
    (tmp_path / "file.txt").write_text("x")
    refused(f"folder:{tmp_path}/file.txt", "is a file")


def test_text_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "ok.txt").write_text("fine")
    (tmp_path / "odd.txt").write_bytes(b"good until here\xff and on")
    refused(f"text:{tmp_path}", "odd.txt", "0xff", "offset 15", "iconv")


def test_text_that_is_too_short(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x" * 100)
    refused(f"text:{tmp_path / 'a.txt'}", "eval text has 10 tokens", "data.length", length=32)
    refused(f"text:{tmp_path / 'a.txt'}", "train text has 90 tokens", length=90)
    (tmp_path / "empty.txt").write_text("")
    refused(f"text:{tmp_path / 'empty.txt'}", "0 tokens")
    (tmp_path / "none").mkdir()
    refused(f"text:{tmp_path / 'none'}", "no .txt file")


def test_folders_without_images(tmp_path: Path):
    (tmp_path / "readme.md").write_text("x")
    refused(f"folder:{tmp_path}", "no image in", ".png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "one.png")
    refused(f"folder:{tmp_path}", "one.png is the only image")


def test_an_image_of_another_size_names_the_file_and_both_sizes(tmp_path: Path):
    root = make_folder(tmp_path)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / "dog" / "odd.png")
    refused(f"folder:{root}", "odd.png is 9x8 pixels", "is 8x8", "data.size")
    assert gd.load(name=f"folder:{root}", size=4).spec["image"].shape == (4, 4, 3)


def test_mixed_channels(tmp_path: Path):
    root = make_folder(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "dog" / "grey.png")
    refused(f"folder:{root}", "grey.png has 1 channels", "has 3")
    (root / "dog" / "grey.png").unlink()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(root / "dog" / "deep.png")
    refused(f"folder:{root}", "deep.png", "8-bit")


@pytest.mark.parametrize("keep", [0, 20, 60, 200])
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_truncated_images(tmp_path: Path, keep: int, form: str):
    root = make_folder(tmp_path, size=16, form=form)
    file = root / "cat" / f"2.{form}"
    file.write_bytes(file.read_bytes()[:keep])
    refused(f"folder:{root}", f"2.{form}", "replace it")


def test_images_in_and_outside_of_classes(tmp_path: Path):
    root = make_folder(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "stray.png")
    refused(f"folder:{root}", "stray.png", "outside the classes")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"file_name": "cat/9.png", "text": "x"}, ["metadata.jsonl:3", "cat/9.png", "there is no image"]),
        ('{"file_name": "cat/2.png", ', ["metadata.jsonl:3 is not JSON", "column"]),
        ({"file_name": "cat/2.png"}, ["metadata.jsonl:3 lacks file_name or text"]),
        ('"cat/2.png"', ["metadata.jsonl:3 lacks file_name or text"]),
        ({"file_name": "cat/0.png", "text": "again"}, ["metadata.jsonl:3", "a second caption"]),
        ({"file_name": "cat/2.png", "text": "x"}, ["dog/0.png has no caption"]),
    ],
)
def test_captions_that_do_not_fit(tmp_path: Path, line, says: list[str]):
    root = make_folder(tmp_path, each=3)
    write_captions(root, [{"file_name": f"cat/{i}.png", "text": "a cat"} for i in range(2)] + [line])
    refused(f"folder:{root}", *says)


def test_fields_that_do_not_fit():
    for wrong in (
        {"name": ""},
        {"name": "text:\0"},
        {"batch": 0},
        {"eval_fraction": 1.0},
        {"limit": 0},
        {"lenght": 3},
    ):
        with pytest.raises(ConfigError):
            gd.load(**{"name": "digits", **wrong})
