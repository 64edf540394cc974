"""What each source holds, the names of contents, and what a person is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genjax.data as gd
from genjax import spec as form
from genjax.data import tokenizers
from genjax.errors import ConfigError, DataError

EMBEDDED = {
    "digits": (1500, 297),
    "mnist5k": (4500, 500),
    "ring": (100_000, 10_000),
    "grid": (100_000, 10_000),
}
FINGERPRINTS = {
    "digits": "91ac3bddd23cc1a8",
    "mnist5k": "f09c70a9d9d0981c",
    "ring": "8dfcb4fec6c95872",
    "grid": "9956e9a5ba019090",
}


def make_folder(root: Path, classes=("cat", "dog"), each: int = 6, size: int = 8, form: str = "png") -> Path:
    random = np.random.RandomState(0)
    for c in classes:
        (root / c).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = random.randint(0, 256, (size, size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / c / f"{i}.{form}")
    return root


def write_captions(root: Path, lines: list) -> None:
    (root / "metadata.jsonl").write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sources_have_the_form_they_declare(name: str):
    dataset = gd.load(name=name)
    assert (len(dataset.train), len(dataset.eval)) == EMBEDDED[name]
    assert dataset.spec.rows == len(dataset.train)
    for split in (dataset.train, dataset.eval):
        rows = split.rows(np.arange(len(split)))
        assert rows.keys() == dataset.spec.elements.keys()
        for k, e in dataset.spec.elements.items():
            assert rows[k].shape == (len(split), *e.shape)
            assert rows[k].dtype == e.dtype
            if e.levels:
                assert (rows[k].min(), rows[k].max()) == (0, e.levels - 1)
        counts = np.bincount(rows["label"])
        assert counts.min() > 0.75 * counts.max()


def test_splits_share_no_row():
    dataset = gd.load(name="mnist5k")
    train, held = (
        {x.tobytes() for x in s.rows(np.arange(len(s)))["image"]} for s in (dataset.train, dataset.eval)
    )
    assert not train & held


def test_every_first_row_counts_all_classes_under_a_limit():
    dataset = gd.load(name="digits", limit=100)
    assert (len(dataset.train), len(dataset.eval)) == (100, 100)
    assert len(np.unique(dataset.train.rows(range(100))["label"])) == 10
    with pytest.raises(IndexError, match="of 100"):
        dataset.train.rows([100])


@pytest.mark.parametrize("name", ["digits", "mnist5k", "ring", "grid"])
def test_fingerprints_are_the_same_on_every_machine(name: str):
    assert gd.load(name=name).fingerprint[:16] == FINGERPRINTS[name]


def test_fingerprints_change_exactly_where_the_content_does(tmp_path: Path):
    text = tmp_path / "a.txt"
    text.write_text("to be or not to be " * 40)

    def of(**changes) -> str:
        return gd.load(**{"name": f"text:{text}", "length": 8, **changes}).fingerprint

    first = of()
    assert of(seed=9, batch=4, order="lanes") == first
    copy = tmp_path / "b.txt"
    copy.write_bytes(text.read_bytes())
    assert of(name=f"text:{copy}") == first
    assert len({first, of(length=9), of(tokenizer="chars"), of(limit=3), of(eval_fraction=0.2)}) == 5
    text.write_text(text.read_text()[:-1] + "!")
    assert of() != first

    folder = make_folder(tmp_path / "f")
    before = gd.load(name=f"folder:{folder}").fingerprint
    (folder / "cat" / "notes.md").write_text("not an image")
    assert gd.load(name=f"folder:{folder}").fingerprint == before
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "cat" / "3.png")
    assert gd.load(name=f"folder:{folder}").fingerprint != before


@pytest.mark.parametrize("kind", ["bytes", "chars"])
def test_text_becomes_windows_that_join_to_the_text(tmp_path: Path, kind):
    text = "Größe, naïve café — " * 30
    (tmp_path / "a.txt").write_text(text[:200], "utf-8")
    (tmp_path / "b.txt").write_text(text[200:], "utf-8")
    dataset = gd.load(name=f"text:{tmp_path}", tokenizer=kind, length=7, eval_fraction=0.25)
    whole = text[:200] + "\n" + text[200:]
    cut = len(whole) - len(whole) // 4
    assert dataset.tokenizer is not None
    for split, part in ((dataset.train, whole[:cut]), (dataset.eval, whole[cut:])):
        rows = split.rows(np.arange(len(split)))["tokens"]
        assert rows.dtype == np.int32
        assert rows.max() < dataset.spec["tokens"].levels
        np.testing.assert_array_equal(rows[:-1, -1], rows[1:, 0])
        tokens = dataset.tokenizer.encode(part)
        joined = np.append(rows[:, :-1].ravel(), rows[-1, -1])
        np.testing.assert_array_equal(joined, tokens[: len(joined)])
        assert len(tokens) - len(joined) < 7


def test_pydoc_is_english_prose():
    dataset = gd.load(name="pydoc", length=200)
    assert len(dataset.train) * 200 > 350_000
    text = dataset.tokenizer.decode(dataset.train.rows([5])["tokens"][0])  # type: ignore[union-attr]
    assert " the " in text


@pytest.mark.parametrize("kind", ["bytes", "chars"])
def test_tokenizers_come_back_and_can_be_kept(kind: str):
    text = "Ünïcode 🙂 and\nplain\x00 text"
    tokenizer = tokenizers.fit(kind, text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32
    assert tokens.max() < tokenizer.vocabulary
    assert tokenizer.decode(tokens) == text
    again = gd.tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.vocabulary == tokenizer.vocabulary
    np.testing.assert_array_equal(again.encode(text), tokens)
    assert tokenizer.encode("").shape == (0,)


def test_tokenizers_refuse_what_they_cannot_write():
    with pytest.raises(DataError, match="character 'z' at 2"):
        tokenizers.fit("chars", "abc").encode("abzc")
    with pytest.raises(DataError, match="character 'a' at 0"):
        tokenizers.fit("chars", "").encode("a")
    assert tokenizers.fit("bytes", "").decode([0xC3]) == "�"
    with pytest.raises(ConfigError, match="did you mean 'chars'"):
        gd.tokenizer_from_json({"kind": "char"})


def test_a_folder_gives_classes_captions_and_the_pixels_that_are_there(tmp_path: Path):
    root = make_folder(tmp_path / "x")
    captions = [
        {"file_name": f"{c}/{i}.png", "text": f"{c} number {i}"} for c in ("cat", "dog") for i in range(6)
    ]
    write_captions(root, captions)
    dataset = gd.load(name=f"folder:{root}", length=10, eval_fraction=0.34)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.eval)) == (8, 4)
    seen = set()
    for split in (dataset.train, dataset.eval):
        rows = split.rows(np.arange(len(split)))
        for k, e in dataset.spec.elements.items():
            assert rows[k].shape[1:] == e.shape
            assert rows[k].dtype == e.dtype
        for x, y, t, m in zip(*(rows[k] for k in ("image", "label", "caption", "caption_mask")), strict=True):
            text = dataset.tokenizer.decode(t[m > 0])  # type: ignore[union-attr]
            name, number = f"{('cat', 'dog')[y]}", text[-1]
            assert text == f"{name} number {number}"[:10] or text == f"{name} number"[:10]
            seen.add(x.tobytes())
            match = [i for i in range(6) if (np.asarray(Image.open(root / name / f"{i}.png")) == x).all()]
            assert len(match) == 1
    assert len(seen) == 12


def test_captions_belong_to_their_images(tmp_path: Path):
    root = make_folder(tmp_path / "x", classes=("a",))
    write_captions(root / "a", [{"file_name": f"{i}.png", "text": f"{i}" * (i + 1)} for i in range(6)])
    dataset = gd.load(name=f"folder:{root / 'a'}", length=4, tokenizer="chars")
    rows = dataset.train.rows(np.arange(len(dataset.train)))
    for x, t, m in zip(rows["image"], rows["caption"], rows["caption_mask"], strict=True):
        i = int(dataset.tokenizer.decode(t[:1]))  # type: ignore[union-attr]
        np.testing.assert_array_equal(x, np.asarray(Image.open(root / "a" / f"{i}.png")))
        assert m.sum() == min(i + 1, 4)


def test_a_folder_with_its_own_test_part_and_one_that_is_resized(tmp_path: Path):
    make_folder(tmp_path / "x" / "train", each=3, size=12)
    make_folder(tmp_path / "x" / "test", each=2, size=20)
    dataset = gd.load(name=f"folder:{tmp_path / 'x'}", size=6)
    assert (len(dataset.train), len(dataset.eval)) == (6, 4)
    assert dataset.spec["image"].shape == (6, 6, 3)
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    (tmp_path / "w").mkdir()
    for i in range(2):
        Image.fromarray(wide).save(tmp_path / "w" / f"{i}.png")
    image = gd.load(name=f"folder:{tmp_path / 'w'}", size=5).train.rows([0])["image"]
    assert (image == 200).all()  # the centre square, and nothing of its sides


def test_images_too_many_for_memory_are_decoded_when_asked_for(tmp_path: Path, monkeypatch):
    root = make_folder(tmp_path / "x")
    eager = gd.load(name=f"folder:{root}")
    monkeypatch.setattr("genjax.data.sources.folder.MEMORY", 0)
    lazy = gd.load(name=f"folder:{root}")
    assert not lazy.train.source.memory
    for a, b in zip(eager.train.stream("once", 4), lazy.train.stream("once", 4), strict=True):
        for k in a:
            np.testing.assert_array_equal(a[k], b[k])
    (root / "cat" / "1.png").write_bytes((root / "cat" / "1.png").read_bytes()[:80])
    with pytest.raises(DataError, match=r"1\.png is truncated or corrupt"):
        list(lazy.train.stream("once", 4))


def test_two_domains_beside_each_other(tmp_path: Path):
    folder = make_folder(tmp_path / "x")
    dataset = gd.load(name=f"zip:digits,folder:{folder}", batch=4)
    assert dataset.spec["image_a"].shape == (8, 8, 1)
    assert dataset.spec["image_b"].levels == 256
    batch = dataset.train.stream(batch=4)[0]
    assert batch.keys() == {*dataset.spec.elements, "mask"}
    assert "zip" in gd.names()


def test_a_description_is_saved_and_read_back(tmp_path: Path):
    dataset = gd.load(name="pydoc", tokenizer="chars", length=16)
    saved = json.loads(dataset.save(tmp_path / "run").read_text("utf-8"))
    assert saved == dataset.description()
    assert form.from_json(saved["spec"]) == dataset.spec
    assert gd.tokenizer_from_json(saved["tokenizer"]).decode([5, 6]) == dataset.tokenizer.decode([5, 6])  # type: ignore[union-attr]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["dataset.json"]


def test_a_person_is_told_and_shown_what_is_there(tmp_path: Path):
    dataset = gd.load(name="digits", batch=100)
    table = gd.describe(dataset)
    for part in (
        "1,500 to train, 297 to evaluate",
        "8x8x1 uint8 in [0, 17)",
        "15.0 batches",
        dataset.fingerprint,
    ):
        assert part in table
    counts = next(line for line in table.splitlines() if line.startswith("label, train"))
    assert sum(int(part.split()[0]) for part in counts.split(": ")[1:]) == 1500
    picture = gd.preview(dataset, 9)
    assert isinstance(picture, Image.Image)
    assert np.asarray(picture).max() == 255
    page = gd.preview(gd.load(name="pydoc", length=30), 3)
    assert isinstance(page, str)
    assert len(page.splitlines()) == 3
    dots = np.asarray(gd.preview(gd.load(name="ring"), 400))
    corners = [dots[:64, :64], dots[-64:, :64], dots[:64, -64:], dots[-64:, -64:], dots[192:320, 192:320]]
    assert all((c == 255).all() for c in corners)  # a ring: nothing in the middle, nothing in the corners
    assert (dots < 255).any()
    pair = gd.preview(gd.load(name="zip:digits,digits"), 4)
    assert pair.width > pair.height  # type: ignore[union-attr]


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = ("tensorflow", "tensorflow_datasets", "sklearn", "mlxtend", "grain", "matplotlib", "pandas")
    code = f"import sys, genjax.data; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
