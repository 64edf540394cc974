"""The emoji source: styles, the split that they share, captions, and damaged originals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import originals
import pytest

import genjax.data as gd
from genjax.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    originals.write_emoji(tmp_path / "emoji")
    return tmp_path


def load(folder: Path, name: str = "emoji", **how) -> gd.Dataset:
    return gd.load(name=name, originals=str(folder), length=16, **how)


def test_a_style_has_all_emoji_once(folder: Path):
    stored = np.load(folder / "emoji" / "emoji32_google_twitter.npz")
    for style in ("google", "twitter"):
        dataset = load(folder, f"emoji:{style}")
        assert (len(dataset.train), len(dataset.eval)) == (48, 12)
        images = np.concatenate([s.rows(np.arange(len(s)))["image"] for s in (dataset.train, dataset.eval)])
        assert sorted(x.tobytes() for x in images) == sorted(x.tobytes() for x in stored[style])
        assert "style" not in dataset.spec.elements


def test_held_out_emoji_are_held_out_in_both_styles(folder: Path):
    both = load(folder, tokenizer="chars")
    alone = load(folder, "emoji:google", tokenizer="chars")
    pairs = lambda s: zip(s["caption"], s["caption_mask"], strict=True)
    names = lambda d, s: {d.tokenizer.decode(x[m > 0]) for x, m in pairs(s)}
    rows = {p: getattr(both, p).rows(np.arange(len(getattr(both, p)))) for p in ("train", "eval")}
    train, held = (names(both, rows[p]) for p in ("train", "eval"))
    assert not train & held
    assert held == names(alone, alone.eval.rows(np.arange(12)))
    assert len(rows["eval"]["image"]) == 24
    np.testing.assert_array_equal(rows["eval"]["style"], np.tile([0, 1], 12))
    # The pictures of a pair differ, and their names and categories do not.
    a, b = ({k: x[i::2] for k, x in rows["train"].items()} for i in range(2))
    np.testing.assert_array_equal(a["caption"], b["caption"])
    np.testing.assert_array_equal(a["label"], b["label"])
    assert (a["image"] != b["image"]).any((1, 2, 3)).all()


def test_a_picture_has_its_own_name_and_category(folder: Path):
    dataset = load(folder, "emoji:google", tokenizer="chars")
    stored = np.load(folder / "emoji" / "emoji32_google_twitter.npz")["google"]
    rows = dataset.train.rows(np.arange(len(dataset.train)))
    for i in range(len(dataset.train)):
        number = int(dataset.tokenizer.decode(rows["caption"][i][rows["caption_mask"][i] > 0]).split()[1])
        np.testing.assert_array_equal(rows["image"][i], stored[number])
        assert dataset.classes[rows["label"][i]] == f"kind {number % 3}"


def test_damage_is_named(folder: Path):
    with pytest.raises(DataError, match="emoji:apple: there is no such style"):
        load(folder, "emoji:apple")
    meta = folder / "emoji" / "emoji_meta.json"
    entries = json.loads(meta.read_text())
    meta.write_text(json.dumps(entries[:-1]))
    with pytest.raises(DataError, match="names 59 emoji, and there are 60 pictures"):
        load(folder)
    meta.write_text(json.dumps([{"name": 1}]))
    with pytest.raises(DataError, match="not a list of names and categories"):
        load(folder)
    arrays = folder / "emoji" / "emoji32_google_twitter.npz"
    arrays.write_bytes(arrays.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged or lacks a style"):
        load(folder)
    np.savez(arrays, google=np.zeros((2, 32, 32, 3)), twitter=np.zeros((2, 32, 32, 3)))
    with pytest.raises(DataError, match="not uint8"):
        load(folder)
    arrays.unlink()
    with pytest.raises(DataError, match="lacks originals"):
        load(folder)
