"""A run owns its tokenizer and the record of its data, and works where the data is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genjax import cli, data
from genjax.data.tokenizers import Options, fit, from_json
from genjax.errors import ConfigError, DataError

TEXT = "the quick brown fox jumps over the lazy dog and sleeps. " * 40
QUIET = ("train.tensorboard=False", "train.progress=False", "train.compilation_cache=False")


def train(where: Path, text: Path, *fields: str) -> int:
    """Train a tiny counting model on the characters of a text file; `fields` replace those given here."""
    options = [
        f"data.name=text:{text}",
        "data.tokenizer=chars",
        "data.length=16",
        "data.batch=8",
        "data.limit=None",
        "train.steps=3",
        *QUIET,
        *fields,
    ]
    # A field may be set only once.
    unique = {field.partition("=")[0]: field for field in options}
    command = ["train", "--config=pydoc/ngram:smoke", f"--dir={where}"]
    return cli.main([*command, *(f"--config.{field}" for field in unique.values())])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "text.txt").write_text(TEXT)
    assert train(folder / "run", folder / "text.txt") == 0
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of the run, whose text is the original's."""
    return Path(shutil.copytree(original / "run", tmp_path / "run"))


def sampled(run: Path, out: Path, *more: str) -> list[str]:
    assert cli.main(["sample", str(run), "--num=4", f"--out={out}", *more]) == 0
    return out.with_suffix(".txt").read_text().split("\n\n---\n\n")


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def edited(original: Path):
    """The text file with other characters, as long as a test runs."""
    text = original / "text.txt"
    text.write_text(TEXT.replace("o", "0").replace("e", "3"))
    yield text
    text.write_text(TEXT)


@pytest.fixture
def missing(original: Path):
    """The text file is not there, as long as a test runs."""
    (original / "text.txt").unlink()
    yield
    (original / "text.txt").write_text(TEXT)


def test_samples_are_the_same_after_the_text_has_changed(original: Path, run: Path, tmp_path: Path):
    before = sampled(run, tmp_path / "before")
    (original / "text.txt").write_text(TEXT.replace("o", "0"))
    try:
        assert sampled(run, tmp_path / "after", "--prompt=the qu") != before
        assert sampled(run, tmp_path / "after") == before
        assert all(set(text) <= set(TEXT) | {"\n"} for text in before)
    finally:
        (original / "text.txt").write_text(TEXT)


@pytest.mark.usefixtures("missing")
def test_samples_need_no_data(run: Path, tmp_path: Path):
    assert sampled(run, tmp_path / "after", "--prompt=the fox")[0].startswith("the fox")


@pytest.mark.usefixtures("missing")
def test_an_evaluation_names_missing_data(run: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["evaluate", str(run)]) == 3
    err = capsys.readouterr().err
    assert "missing or has changed" in err
    assert "text.txt" in err
    assert not (run / "scores.json").exists()


@pytest.mark.usefixtures("edited")
def test_an_evaluation_on_text_of_other_characters_is_refused(run: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["evaluate", str(run)]) == 3
    err = capsys.readouterr().err
    assert "missing or has changed" in err
    assert "not among the 28 of this tokenizer" in err


def test_an_evaluation_on_changed_text_names_the_fingerprints(
    original: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    trained = json.loads((run / "dataset.json").read_text())["fingerprint"]
    (original / "text.txt").write_text(TEXT.replace("fox", "dog"))
    try:
        assert cli.main(["evaluate", str(run)]) == 3
    finally:
        (original / "text.txt").write_text(TEXT)
    err = capsys.readouterr().err
    assert f"fingerprint was {trained[:12]}" in err
    assert "hint" in err


def test_an_evaluation_with_the_runs_own_tokenizer(run: Path, tmp_path: Path):
    quick = ["--evaluate.metrics=('likelihood',)", "--evaluate.batch=8"]
    assert cli.main(["evaluate", str(run), *quick]) == 0
    assert json.loads((run / "scores.json").read_text())


@pytest.mark.usefixtures("edited")
def test_a_refused_resumption_changes_nothing(original: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    before = tree(run)
    assert train(run, original / "text.txt", "train.steps=5") == 3
    assert "trained on" in capsys.readouterr().err
    assert tree(run) == before


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("train.mesh.data=7", "mesh"),
        ("train.keep_best=nonsense", "no metric 'nonsense'"),
        ("sample.temperature=-1", "temperature"),
        ("train.init_from=nowhere", "nowhere"),
        ("data.name=text:nowhere.txt", "nowhere.txt"),
    ],
)
def test_a_refused_run_leaves_no_trace_and_changes_no_run(
    original: Path, run: Path, tmp_path: Path, field: str, says: str, capsys: pytest.CaptureFixture[str]
):
    before = tree(run)
    for where in (tmp_path / "new", run):
        assert train(where, original / "text.txt", "train.steps=5", field) in (2, 3)
        err = capsys.readouterr().err
        assert says in err or "data.name" in err
        assert "Traceback" not in err
    assert not (tmp_path / "new").exists()
    assert tree(run) == before


@pytest.mark.parametrize("field", ["model.strength=3.0", "data.batch=16", "seed=1", "train.accumulate=2"])
def test_another_run_in_the_same_directory_changes_nothing(original: Path, run: Path, field: str):
    before = tree(run)
    assert train(run, original / "text.txt", "train.steps=5", field) in (2, 4)
    assert tree(run) == before


def test_a_resumed_run_keeps_its_record(original: Path, run: Path):
    before = (run / "dataset.json").read_bytes()
    (run / "dataset.json").unlink()
    assert cli.main(["sample", str(run), "--num=1"]) == 3
    assert train(run, original / "text.txt", "train.steps=4") == 0
    assert (run / "dataset.json").read_bytes() == before


def damage(path: Path, change: Any) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(tokenizer={"kind": "chars", "alphabet": d["tokenizer"]["alphabet"][::-1] + "z"}),
        lambda d: d.update(tokenizer={"kind": "run"}),
        lambda d: d.update(spec=[1, 2]),
        lambda d: d.pop("rows"),
        lambda d: d["spec"]["elements"]["tokens"].update(levels=99),
    ],
)
def test_a_damaged_record_is_one_error_that_names_it(run: Path, change, capsys: pytest.CaptureFixture[str]):
    damage(run / "dataset.json", change)
    assert cli.main(["sample", str(run), "--num=1"]) == 3
    err = capsys.readouterr().err
    assert str(run / "dataset.json") in err
    assert "Traceback" not in err


@pytest.mark.parametrize("content", ["[5]", "null", "{", "\xff", '"text"'])
@pytest.mark.parametrize("name", ["dataset.json", "config.json", "origins.json", "scores.json"])
def test_json_of_another_shape_is_one_error_that_names_the_file(
    original: Path, run: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
):
    (run / name).write_bytes(content.encode("latin-1"))
    commands = [["report", str(run)], ["sample", str(run), "--num=1"]]
    codes = [cli.main(command) for command in commands]
    codes.append(train(run, original / "text.txt"))
    err = capsys.readouterr().err
    assert set(codes) <= {0, 2, 3}
    assert "Traceback" not in err
    refused = {
        "dataset.json": codes,
        "config.json": codes,
        "origins.json": codes[1:],
        "scores.json": codes[:1],
    }
    assert 0 not in refused[name]
    assert err.count(str(run / name)) == len(refused[name])


def test_the_record_of_other_data_is_refused(original: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    (original / "other.txt").write_text(TEXT.replace("fox", "xof"))
    damage(run / "config.json", lambda c: c["data"].update(name=f"text:{original / 'other.txt'}"))
    data.load(name=f"text:{original / 'other.txt'}", tokenizer="chars", length=16).save(run)
    assert cli.main(["sample", str(run), "--num=1"]) == 3
    assert "is not the record of the data that checkpoint 3 was trained on" in capsys.readouterr().err


def test_the_tokenizer_of_a_run_is_one_of_the_tokenizers(run: Path):
    found = fit("run", "other text", Options(file=str(run)))
    assert found.decode(found.encode("the fox")) == "the fox"
    assert from_json(found.to_json()).to_json() == found.to_json()
    with pytest.raises(DataError, match="cannot be read"):
        fit("run", "", Options(file="nowhere"))
    with pytest.raises(ConfigError, match="has no pad token"):
        fit("run", "", Options(file=str(run / "dataset.json"), marks=("pad",)))
    with pytest.raises(ConfigError, match="needs a run"):
        fit("run", "", Options())


def test_rows_are_those_of_the_data(original: Path, run: Path):
    config = data.Config(name=f"text:{original / 'text.txt'}", tokenizer="chars", length=16)
    live = data.load(config)
    kept = data.record.read(run, config, data.load)
    assert (len(kept.train), len(kept.eval)) == (len(live.train), len(live.eval))
    rows = np.arange(3)
    np.testing.assert_array_equal(kept.eval.rows(rows)["tokens"], live.eval.rows(rows)["tokens"])
