"""Every source declares elements that fit its rows, with roles and kinds that exist."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import originals
import pytest
from test_data_sources import make_folder, write_captions

import genjax.data as gd
from genjax import files, kinds
from genjax.data.prepare import Request
from genjax.data.sources import _unpack, tfds
from genjax.spec import ROLES

WORDS = "to be or not to be, that is the question\n\n" * 20


def folder(root: Path) -> str:
    make_folder(root, each=3)
    names = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    write_captions(root, [{"file_name": name, "text": f"a picture: {name}"} for name in names])
    return f"folder:{root}"


def text(root: Path) -> str:
    root.mkdir()
    (root / "a.txt").write_text(WORDS)
    return f"text:{root}"


def pairs(root: Path) -> str:
    root.mkdir()
    (root / "train.tsv").write_text("".join(f"{i} to\t{i} zu\n" for i in range(8)))
    return f"pairs:{root}"


def rolls(root: Path) -> str:
    from genjax.music import midi
    from genjax.music.notes import Note

    for i in range(6):
        midi.write(root / f"{i}.mid", [Note(i, i + 5, 60, 0), Note(0, 20, 50 + i, 3)], 20 + 16 * i)
    return f"rolls:{root}"


SOURCES: dict[str, list[tuple[str | Callable[[Path], str], dict]]] = {
    "chorales": [
        ("chorales", {}),
        ("chorales:voices", {}),
        ("chorales:voices", {"order": "lanes"}),
        ("chorales:voices", {"pack": True}),
    ],
    "digits": [("digits", {})],
    "emoji": [("emoji", {"tokenizer": "chars"}), ("emoji:twitter", {})],
    "emoji_styles": [("emoji_styles", {}), ("emoji_styles:paired", {})],
    "folder": [(folder, {})],
    "grid": [("grid", {})],
    "mnist": [("mnist", {}), ("mnist:16", {})],
    "mnist5k": [("mnist5k", {}), ("mnist5k", {"downsample": 4})],
    "mnist_usps": [("mnist_usps", {})],
    "multi30k": [("multi30k", {})],
    "pairs": [(pairs, {})],
    "pydoc": [("pydoc", {}), ("pydoc", {"documents": "source", "pack": True})],
    "ring": [("ring", {})],
    "rolls": [(rolls, {}), (rolls, {"order": "lanes", "per_quarter": 2})],
    "shapes": [("shapes", {"tokenizer": "words"}), ("shapes:sprites", {})],
    "stacked_mnist": [("stacked_mnist", {}), ("stacked_mnist:16", {})],
    "text": [(text, {}), (text, {"documents": "\n\n"})],
    "tfds": [("tfds:images", {}), ("tfds:texts", {}), ("tfds:texts", {"documents": "source"})],
    "usps": [("usps", {})],
    "zip": [("zip:digits,ring", {}), ("zip:digits,digits,digits", {})],
}
"""Small datasets of each source, or functions that write one; with changes to the config."""
CASES = [
    pytest.param(*case, id=f"{name}{i}") for name, cases in SOURCES.items() for i, case in enumerate(cases)
]


def prepared(request: Request) -> None:
    """Write the columns that a preparation of a small catalogue dataset would write."""
    with files.replacing_folder(request.columns) as folder:
        about = {"name": request.name, "splits": {"train": "train"}, "classes": [], "digest": ""}
        if request.name == "texts":
            _unpack.write_text(iter([WORDS] * 3), folder / "train.txt")
            about |= {"kind": "text", "labels": 0}
        else:
            np.save(folder / "train-image.npy", np.zeros((12, 4, 4, 1), np.uint8))
            np.save(folder / "train-label.npy", np.arange(12, dtype=np.int32) % 3)
            about |= {"kind": "image", "labels": 3}
        files.write_json(folder / "columns.json", about)


def test_there_is_a_case_for_every_source():
    assert list(SOURCES) == gd.names()


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_elements_fit_the_rows_and_have_roles_and_kinds(
    name: str | Callable[[Path], str], changes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tfds, "run", prepared)
    given = {"length": 64, "limit": 4, "cache": str(tmp_path / "cache")}
    given["originals"] = str(originals.write(tmp_path / "originals"))
    dataset = gd.load(name=name if isinstance(name, str) else name(tmp_path / "files"), **given, **changes)
    spec = dataset.spec
    assert spec.targets
    assert not spec.paired or spec.conditions
    for split in (dataset.train, dataset.eval):
        rows = split.rows(range(len(split)))
        assert list(rows) == list(spec.elements)
        for key, element in spec.elements.items():
            assert element.role in ROLES
            assert rows[key].shape == (len(split), *element.shape), key
            assert rows[key].dtype == element.dtype, key
            if element.levels is not None:
                assert 0 <= rows[key].min() <= rows[key].max() < element.levels, key
            # An array without a kind accompanies another one: it is never the main target.
            assert (kinds.of(element) is None) == (element.kind is None)
            if element.kind is not None:
                assert element.kind in kinds.names() or "." in element.kind, key
    main = kinds.main_target(spec)
    assert main in spec.targets
    assert json.loads(json.dumps(dataset.description()))["spec"]["elements"][main]["role"] == "target"
