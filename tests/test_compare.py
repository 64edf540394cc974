"""A comparison: one budget, one protocol, one report; interrupted, it resumes where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genjax import settings
from genjax.config import build
from genjax.errors import ConfigError, DataError
from genjax.workflows import assemble, budget, compare

ENTRIES = {
    "counts": {"config": "digits/ngram:smoke", "family": "n-gram", "passes": 0.01},
    "codes": {"config": "digits/vae:smoke", "family": "VAE"},
}


def config(**changes) -> compare.Config:
    raw = {
        "name": "tiny",
        "entries": ENTRIES,
        "budget": {"kind": "steps", "value": 6},
        "features": "pixels",
        "evaluate": {"samples": 32, "sets": 2, "speed_batches": (4,), "repeats": 1},
    }
    return build(compare.Config, {**raw, **changes}, "config")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose second entry failed to score the first time."""
    directory = tmp_path_factory.mktemp("compare")
    scored = compare._Comparison._score
    calls = []

    def dies(self, training):
        calls.append(training.run)
        if training.run == "codes":
            raise KeyboardInterrupt
        return scored(self, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare._Comparison, "_score", dies)
        with pytest.raises(KeyboardInterrupt):
            compare.compare(config(), directory)
    assert calls == ["counts", "codes"]
    assert not (directory / "codes" / "scores.json").exists()
    kept = (directory / "counts" / "scores.json").stat().st_mtime_ns
    steps = (directory / "codes" / "metrics.jsonl").read_text()
    compare.compare(config(), directory)
    assert (directory / "counts" / "scores.json").stat().st_mtime_ns == kept, "scored twice"
    assert (directory / "codes" / "metrics.jsonl").read_text() == steps, "trained twice"
    return directory


def test_every_entry_and_the_floor_are_in_the_report(finished: Path):
    report = json.loads((finished / "report.json").read_text())
    assert list(report["entries"]) == ["counts", "codes"]
    assert all(e["status"] == "scored" for e in report["entries"].values())
    assert "frechet" in report["floor"]
    assert report["entries"]["codes"]["scores"]["frechet"]["value"] > 0
    page = (finished / "report.html").read_text()
    assert "n-gram" in page
    assert "VAE" in page


def test_the_budget_is_the_same_and_passes_cap_it(finished: Path):
    steps = {n: json.loads((finished / n / "budget.json").read_text())["steps"] for n in ENTRIES}
    assert steps["codes"] == 6
    assert 1 <= steps["counts"] <= 2  # a hundredth of a pass over 1,500 rows in batches of 8


def test_another_comparison_in_the_same_directory_is_refused(finished: Path):
    with pytest.raises(ConfigError, match="another budget"):
        compare.compare(config(budget={"kind": "steps", "value": 7}), finished)


def test_entries_on_different_data_are_refused(tmp_path: Path):
    other = {**ENTRIES, "codes": {**ENTRIES["codes"], "overrides": ("data.limit=100",)}}
    with pytest.raises(ConfigError, match="read different data"):
        compare.compare(config(entries=other), tmp_path)


def test_an_entry_that_fails_is_marked_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained = compare._Comparison._train

    def fails(self, name):
        if name == "counts":
            raise DataError("no such rows", "bring some")
        return trained(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(compare._Comparison, "_train", fails)
        with pytest.raises(DataError, match=r"1 of 2 entries failed; counts: no such rows"):
            compare.compare(config(), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["entries"]["codes"]["status"] == "scored"
    assert report["entries"]["counts"]["status"] != "scored"
    assert json.loads((tmp_path / "compare.json").read_text())["entries"]["counts"]["error"]
    compare.compare(config(), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["entries"]["counts"]["status"] == "scored"


def test_a_wrong_entry_is_refused_before_anything_is_trained(tmp_path: Path):
    wrong = {**ENTRIES, "codes": {**ENTRIES["codes"], "overrides": ("sample.temprature=1",)}}
    with pytest.raises(ConfigError, match="temperature"):
        compare.compare(config(entries=wrong), tmp_path / "here")
    assert not (tmp_path / "here" / "counts").exists()


def experiment(name: str = "digits/vae") -> assemble.Experiment:
    return assemble.assemble(settings.complete(settings.load(f"{name}:smoke")))


def test_a_budget_of_flops_buys_steps_in_proportion():
    """Twice the budget buys twice the steps, twice the batch half of them."""
    e = experiment()
    once, note = budget.steps(budget.Budget("flops", 1e9), e)
    twice, _ = budget.steps(budget.Budget("flops", 2e9), e)
    assert twice == pytest.approx(2 * once, rel=0.01)
    larger = settings.complete(settings.load("digits/vae:smoke", ("data.batch=16",)))
    half, _ = budget.steps(budget.Budget("flops", 1e9), assemble.assemble(larger))
    assert half == pytest.approx(once / 2, rel=0.01)
    # A step costs at least three products (forward, and two backward) with every weight of the network.
    assert note["flops_per_step"] > 3 * 2 * 8 * 4_000


def test_a_budget_of_seconds_is_kept():
    e = experiment()
    steps, note = budget.steps(budget.Budget("seconds", 5.0), e)
    assert steps * note["seconds_per_step"] <= 5.0
    assert (steps + 1) * note["seconds_per_step"] > 5.0
    assert 1e-5 < note["seconds_per_step"] < 5.0


def test_a_budget_that_buys_nothing_is_refused():
    with pytest.raises(ConfigError, match="value"):
        build(budget.Budget, {"kind": "seconds", "value": -1}, "budget")
