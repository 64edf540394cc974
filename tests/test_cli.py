"""The command line as a user types it: what it prints, what it leaves, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax import cli

QUIET = [
    "--config.train.tensorboard=False",
    "--config.train.compilation_cache=False",
    "--config.data.batch=8",
]


@pytest.fixture(scope="module")
def ngram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cli") / "ngram"
    assert cli.main(["train", "--config=digits/ngram:smoke", f"--dir={directory}", *QUIET]) == 0
    return directory


def test_train_leaves_plain_files(ngram: Path):
    config = json.loads((ngram / "config.json").read_text())
    assert config["model"]["name"] == "ngram"
    assert config["train"]["steps"] == 8
    assert len(json.loads((ngram / "dataset.json").read_text())["fingerprint"]) == 64
    assert (ngram / "metrics.jsonl").read_text().count("\n") >= 1
    assert list((ngram / "samples").glob("step_*.png"))


def test_sample_writes_a_picture_and_the_rows(ngram: Path, tmp_path: Path):
    out = tmp_path / "threes.png"
    assert (
        cli.main(["sample", str(ngram), "--num=9", "--label=3", f"--out={out}", "--sample.temperature=0.5"])
        == 0
    )
    with np.load(out.with_suffix(".npz")) as rows:
        assert rows["image"].shape == (9, 8, 8, 1)
        assert rows["label"].tolist() == [3] * 9
    with Image.open(out) as picture:
        assert picture.width > 3 * 8


def test_evaluate_writes_scores_and_a_page(ngram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fields = ["--evaluate.samples=32", "--evaluate.sets=2", "--evaluate.speed_batches=(4,)"]
    assert cli.main(["evaluate", str(ngram), "--features=classifier:digits/classifier:smoke", *fields]) == 0
    names = {s["name"] for s in json.loads((ngram / "scores.json").read_text())}
    assert {
        "frechet",
        "kid",
        "precision",
        "conditional_accuracy",
        "bits_per_dim/exact",
        "parameters",
    } <= names
    assert "<html" in (ngram / "report.html").read_text()
    assert (ngram / "samples" / "neighbours.npz").exists()


def test_data_describes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "ring.png"
    assert cli.main(["data", "ring", f"--out={out}", "--data.limit=500"]) == 0
    assert "fingerprint" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--config=digits/gpt", "--config.model.wdith=3"], 2, "did you mean 'width'"),
        (["train", "--config=digits/gtp"], 2, "did you mean 'digits/gpt'"),
        (["train", "--config=digits/gpt", "--config.model.width=wide"], 2, "expected int"),
        (["train", "--config=digits/gpt", "--config.modle.width=3"], 2, "did you mean 'model'"),
        (["train", "--config=digits/gpt", "--config.model.name=gtp"], 2, "did you mean 'gpt'"),
        (["train", "--config=digits/gpt", "--config.sample.temprature=1"], 2, "did you mean 'temperature'"),
        (["train", "--config=digits/gpt", "--config.data.name=digit"], 3, "did you mean 'digits'"),
        (["train", "--config=digits/gpt", "--confg.seed=1"], 2, "unknown argument '--confg.seed=1'"),
        (["train", "--config=digits/gpt", "--config.optimizer.name=adan"], 2, "did you mean 'adam'"),
        (["train", "--config=digits/gpt", "--config.model.name=lab.net"], 2, "on PYTHONPATH"),
        (["config", "compare/digits"], 2, "give it to genjax compare"),
        (["sample", "runs/none-such"], 3, "no run in runs/none-such"),
        (["data", "mnits5k"], 3, "did you mean 'mnist5k'"),
        (["compare", "--config=compare/digits", "--config.budget.kind=minutes"], 2, "not a choice"),
    ],
)
def test_what_is_wrong_is_named_with_a_hint(arguments, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists(), "a refused command left something behind"


def test_an_evaluation_of_which_nothing_is_left_keeps_the_scores(
    ngram: Path, capsys: pytest.CaptureFixture[str]
):
    kept = ngram / "scores.json"
    kept.write_text("[1]")
    command = ["evaluate", str(ngram), "--features=pixels", "--evaluate.metrics=('modes',)"]
    assert cli.main(command) == 2
    assert "none of the metrics applies" in capsys.readouterr().err
    assert kept.read_text() == "[1]"
    kept.unlink()


def test_another_model_in_the_same_directory_is_refused(ngram: Path, capsys: pytest.CaptureFixture[str]):
    before = (ngram / "config.json").read_text()
    change = "--config.model.strength=3.0"
    assert cli.main(["train", "--config=digits/ngram:smoke", f"--dir={ngram}", change, *QUIET]) == 2
    assert "model.strength=16.0" in capsys.readouterr().err
    assert (ngram / "config.json").read_text() == before


def test_a_run_goes_on_when_a_later_version_has_more_fields(
    ngram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from genjax.models import ngram as module

    run = Path(shutil.copytree(ngram, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    del config["data"]["transpose"]
    (run / "config.json").write_text(json.dumps(config))
    later = dataclasses.make_dataclass("Config", [("later", int, 7)], bases=(module.Config,), frozen=True)
    monkeypatch.setattr(module, "Config", later)
    command = ["train", "--config=digits/ngram:smoke", f"--dir={run}", *QUIET]
    assert cli.main(command) == 0
    assert json.loads((run / "config.json").read_text())["model"]["later"] == 7
    assert cli.main([*command, "--config.model.later=8"]) == 2


def test_a_label_that_is_not_there_is_refused(ngram: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["sample", str(ngram), "--label=12"]) == 2
    assert "classes are 0 to 9" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    code = cli.main(["train", "--config=digits/ngram:smoke", f"--dir={tmp_path}/file/run", *QUIET])
    assert code == 4
    assert os.fspath(tmp_path / "file" / "run") in capsys.readouterr().err
