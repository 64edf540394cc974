"""The diagnosis of collapse: planted losses are found and named, and real rows raise no alarm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from genjax import cli
from genjax.data import load
from genjax.evaluation import prdc
from genjax.evaluation.collapse import Bins, diagnose
from genjax.report import runs, sections, single
from genjax.report.runs import Run


@pytest.mark.parametrize(("name", "modes"), [("ring", 8), ("grid", 25)])
def test_modes_are_found_and_lost_ones_are_counted(name: str, modes: int):
    data = load(name=name)
    train = data.train.rows(np.arange(5000))["point"]
    held = data.eval.rows(np.arange(2500))
    bins = Bins.of(train)
    assert len(bins.shares) == modes
    np.testing.assert_allclose(bins.shares, 1 / modes, rtol=0.2)
    assert not diagnose(bins, held["point"]).alarm
    kept = held["point"][held["label"] >= 3]
    found = diagnose(bins, kept)
    assert len(found.lost) == 3
    assert found.missing == pytest.approx(3 / modes, rel=0.2)
    said = f"collapse: {len(kept)} samples leave out 3 of {modes} parts of the training rows"
    assert str(found) == f"{said}, {found.missing:.0%} of them"


def test_a_mode_that_is_kept_by_a_few_samples_is_lost():
    data = load(name="ring")
    held = data.eval.rows(np.arange(2500))
    bins = Bins.of(data.train.rows(np.arange(5000))["point"])
    thin = np.flatnonzero(held["label"] == 0)[10:]
    assert len(diagnose(bins, np.delete(held["point"], thin, 0)).lost) == 1


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_real_images_raise_no_alarm_and_a_missing_class_does(name: str):
    data = load(name=name)
    flat = lambda rows: rows["image"].reshape(len(rows["image"]), -1) / 255.0
    bins = Bins.of(flat(data.train.rows(np.arange(len(data.train)))))
    held = data.eval.rows(np.arange(len(data.eval)))
    real = diagnose(bins, flat(held))
    assert not real.alarm
    assert str(real) == f"{len(data.eval)} samples reach all {len(bins.shares)} parts of the training rows"
    ones = np.random.default_rng(0).choice(np.flatnonzero(held["label"] == 1), 1000)
    assert diagnose(bins, flat({k: v[ones] for k, v in held.items()})).missing > 0.5


def test_samples_between_the_modes_are_no_proof_of_any():
    """Spread over the plane, they belong to every bin and are like no training row."""
    data = load(name="grid")
    train = data.train.rows(np.arange(5000))["point"]
    spread = np.random.default_rng(0).uniform(-5, 5, (2500, 2))
    precision = prdc.prdc(prdc.Manifold.of(train[:1000]), spread[:1000]).precision
    found = diagnose(Bins.of(train), spread, precision)
    assert not found.lost
    assert found.alarm
    assert str(found) == f"only {precision:.0%} of 2500 samples lie among the training rows"
    real = data.eval.rows(np.arange(1000))["point"]
    near = prdc.prdc(prdc.Manifold.of(train[:1000]), real).precision
    assert not diagnose(Bins.of(train), real, near).alarm


def test_an_entry_of_several_trainings_counts_their_alarms(tmp_path: Path):
    def training(seed: int, alarms: list[float]) -> Run:
        lines = tuple(
            {
                "step": 10 * (n + 1),
                "diagnosis/alarm": alarm,
                "diagnosis/missing": 0.1 * (seed + 1) * alarm,
                "diagnosis/precision": 0.9 - 0.2 * seed,
            }
            for n, alarm in enumerate(alarms)
        )
        return dataclasses.replace(runs.run(tmp_path / "run", "gan"), metrics=lines)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    first, second, third = training(0, [1.0, 0.0]), training(1, [0.0, 1.0]), training(2, [0.0, 0.0])
    entry = dataclasses.replace(first, repeats=(second, third))
    page = sections.alarms(runs.Comparison(tmp_path, {}, (entry,), None, None))
    assert "in 2 of 3 trainings, first at step 10; up to 20% of the training rows" in str(page)
    assert "precision down to 0.70. Raised in 1 of 3 at the last evaluation" in str(page)
    alone = sections.alarms(runs.Comparison(tmp_path, {}, (first,), None, None))
    assert "first at step 10; up to 10%" in str(alone)
    assert "Raised not at the last evaluation" in str(alone)
    assert sections.alarms(runs.Comparison(tmp_path, {}, (third,), None, None)) is None


@pytest.mark.parametrize("place", [0, 1700, 3400])
def test_an_outlier_is_no_group(place: int):
    """Rows in one cloud but for one: they are divided as a cloud."""
    rows = np.random.default_rng(0).normal(size=(5001, 2))
    rows[0] = 1000.0
    bins = Bins.of(np.roll(rows, place, 0))
    assert len(bins.shares) == 20


def test_few_samples_are_no_proof():
    data = load(name="grid")
    bins = Bins.of(data.train.rows(np.arange(5000))["point"])
    assert not diagnose(bins, data.eval.rows(np.arange(30))["point"]).alarm


def test_a_run_is_diagnosed_at_every_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    """An untrained generator of points reaches few modes: the log, metrics.jsonl and the report say so."""
    monkeypatch.chdir(tmp_path)
    changes = ["train.diagnose=400", "train.eval_every=4", "evaluate.batch=200", "data.limit=2000"]
    code = cli.main(["train", "--config=ring/gan:smoke", "--dir=run", *(f"--config.{c}" for c in changes)])
    assert code == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = [r for r in records if "diagnosis/alarm" in r]
    assert [r["step"] for r in found] == [4, 8]
    for r in found:
        assert r["diagnosis/alarm"] == 1
        assert 0 < r["diagnosis/missing"] <= 1
        assert 0 <= r["diagnosis/recall"] <= 1
    said = [m for m in caplog.messages if "collapse" in m]
    assert len(said) == 2
    assert said[0].startswith("step 4: collapse: 400 samples leave out")
    page = single.write(tmp_path / "run").read_text()
    assert "Mode collapse" in page
    assert "first at step 4" in page


def test_a_model_without_samples_cannot_be_diagnosed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--config=digits/vqvae:smoke", "--config.train.diagnose=100"]) == 2
    assert "train.diagnose" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
