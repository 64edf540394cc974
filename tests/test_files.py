"""Files and folders appear when they are complete, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from genjax import files


def test_a_folder_appears_when_it_is_complete(tmp_path: Path):
    target = tmp_path / "deep" / "columns"
    with files.replacing_folder(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask
    assert [p.name for p in target.parent.iterdir()] == ["columns"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with files.replacing_folder(tmp_path / "columns") as partial:
            (partial / "a").write_text("1")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_are_kept_in_json_and_readable_in_text(tmp_path: Path):
    """Python gives the bytes of such a name as lone surrogates."""
    name = "caf\udce9"
    path = files.write_json(tmp_path / "x.json", {"path": name})
    assert json.loads(path.read_text("utf-8")) == {"path": name}
    assert files.write_text(tmp_path / "x.html", name).read_text("utf-8") == "caf\\udce9"


def test_a_file_that_fails_keeps_the_old_one(tmp_path: Path):
    path = files.write_json(tmp_path / "x.json", {"a": 1})

    def fail() -> None:
        with files.replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
