"""A comparison: one budget, one protocol, one report; interrupted, it resumes where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genjax import settings
from genjax.config import build
from genjax.errors import ConfigError, DataError
from genjax.workflows import assemble, budget, compare, entries, planned, train

ENTRIES = {
    "counts": {"config": "digits/ngram:smoke", "family": "n-gram", "passes": 0.01},
    "codes": {"config": "digits/vae:smoke", "family": "VAE"},
}


SMALL = {"samples": 32, "sets": 2, "speed_batches": (4,), "repeats": 1}
QUICK = {**SMALL, "metrics": ("frechet", "cost")}


def config(**changes) -> entries.Config:
    raw = {
        "name": "tiny",
        "entries": ENTRIES,
        "budget": {"kind": "steps", "value": 6},
        "features": "pixels",
        "evaluate": QUICK,
    }
    return build(entries.Config, {**raw, **changes}, "config")


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


def assert_refused_before_training(where: Path, wrong: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        compare.compare(config(entries={**ENTRIES, **wrong}, evaluate=SMALL), where / "here")
    assert not (where / "here").exists()


def test_wrong_entries_are_refused_before_anything_is_trained(tmp_path: Path):
    """All of them at once: a config, a sampler, a schedule, and a stage of an entry."""

    def vae(*overrides: str) -> dict:
        return {**ENTRIES["codes"], "overrides": overrides}

    assert_refused_before_training(tmp_path, {"codes": vae("sample.temprature=1")}, "temperature")
    assert_refused_before_training(tmp_path, {"codes": vae("evaluate.metrics=('frchet',)")}, "frechet")
    two = {"codes": vae("model.wdith=3"), "more": {"config": "digits/nothing"}}
    both = r"2 entries cannot be trained: codes: .*width.*; more: no config file 'digits/nothing'"
    assert_refused_before_training(tmp_path, two, both)
    late = vae("optimizer.schedule=wsd", "optimizer.decay_steps=9")
    assert_refused_before_training(tmp_path, {"codes": late}, "do not fit into 8 updates")
    stage = "{'config': 'digits/vae:smoke', 'overrides': ['sample.temprature=1']}"
    prior = {"config": "digits/latent:smoke", "overrides": (f"stages.codec={stage}",)}
    assert_refused_before_training(tmp_path, {"prior": prior}, "prior: .*temperature")


def test_an_entry_on_stages_is_checked_without_training_them():
    resolved = settings.complete(settings.load("digits/latent:smoke"))
    found = planned.experiment(resolved, assemble.Datasets())
    assert found.stages["codec"].trained.step == 0


def test_a_failed_entry_is_marked_and_begins_again_with_its_new_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The others go on and are kept; nothing has to be removed by hand."""
    several = {
        "counts": ENTRIES["counts"],
        "codes": {**ENTRIES["counts"], "overrides": ("model.strength=7",)},
        "more": {**ENTRIES["counts"], "overrides": ("model.strength=9",)},
    }
    trained = train.train

    def fails(resolved, directory, **how):
        found = trained(resolved, directory, **how)
        if directory.name == "codes":
            raise DataError("no such rows", "bring some")
        if directory.name == "more" and resolved.model.strength == 9:
            raise ZeroDivisionError("nothing to divide by")
        return found

    monkeypatch.setattr(train, "train", fails)
    said = r"2 entries failed: codes: no such rows; more: ZeroDivisionError: nothing to divide by"
    with pytest.raises(DataError, match=said):
        compare.compare(config(entries=several), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    status = {n: e["status"] for n, e in report["entries"].items()}
    assert status == {"counts": "scored", "codes": "failed", "more": "failed"}
    assert report["entries"]["codes"]["error"] == "no such rows"
    assert "raise ZeroDivisionError" in (tmp_path / "more" / compare.ERROR).read_text()
    kept = (tmp_path / "counts" / "scores.json").stat().st_mtime_ns
    # An entry that is finished may not change.
    other = {**several, "counts": {**ENTRIES["counts"], "overrides": ("model.order=1",)}}
    with pytest.raises(ConfigError, match=r"entry 'counts' .* has model\.order=2"):
        compare.compare(config(entries=other), tmp_path)
    # Another model is another run; an error that had nothing to do with the config is tried again.
    several["more"] = {**ENTRIES["counts"], "overrides": ("model.strength=8",)}
    steps = (tmp_path / "codes" / "metrics.jsonl").read_text()
    monkeypatch.setattr(train, "train", trained)
    compare.compare(config(entries=several), tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {e["status"] for e in report["entries"].values()} == {"scored"}
    assert (tmp_path / "counts" / "scores.json").stat().st_mtime_ns == kept, "scored twice"
    assert (tmp_path / "codes" / "metrics.jsonl").read_text() == steps, "trained twice"
    saved = json.loads((tmp_path / "more" / "config.json").read_text())
    assert saved["model"]["strength"] == 8


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One family, trained three times for half a second."""
    directory = tmp_path_factory.mktemp("repeated")
    entries = {"codes": {**ENTRIES["codes"], "overrides": ("train.progress=False",)}}
    half = {"kind": "seconds", "value": 0.5}
    compare.compare(config(entries=entries, budget=half, seeds=3, seed=5), directory)
    return directory


def test_several_seeds_give_intervals_over_trainings(repeated: Path):
    report = json.loads((repeated / "report.json").read_text())
    entry = report["entries"]["codes"]
    assert [t["seed"] for t in entry["trainings"]] == [5, 6, 7]
    each = [json.loads((repeated / t["run"] / "scores.json").read_text()) for t in entry["trainings"]]
    values = [next(s["value"] for s in scores if s["name"] == "frechet") for scores in each]
    assert len({*values}) == 3
    found = entry["scores"]["frechet"]
    assert found["value"] == pytest.approx(np.mean(values))
    # Student's t for three values: 4.303 standard errors.
    half = 4.3027 * np.std(values, ddof=1) / 3**0.5
    own = np.mean([next(s["high"] - s["value"] for s in scores if s["name"] == "frechet") for scores in each])
    assert found["high"] - found["value"] == pytest.approx(np.hypot(half, own), rel=1e-3)
    assert found["detail"]["trainings"] == 3
    assert entry["scores"]["parameters"]["low"] is None
    assert "over 3 trainings of each family with different seeds" in report["intervals"]
    assert report["intervals"] in (repeated / "report.html").read_text()


def test_the_report_states_the_seconds_that_were_spent(repeated: Path):
    entry = json.loads((repeated / "report.json").read_text())["entries"]["codes"]
    for training in entry["trainings"]:
        assert 0.4 < training["seconds"] < 2  # tests run beside others: one step may take long
        assert training["steps"] > 1
        record = json.loads((repeated / training["run"] / "pace.json").read_text())
        assert record["decisions"][-1]["end"] == training["steps"]
    page = (repeated / "report.html").read_text()
    assert "Seconds spent on training, without compilation and evaluation: VAE 0." in page


def experiment(name: str = "digits/vae") -> assemble.Experiment:
    return assemble.assemble(settings.complete(settings.load(f"{name}:smoke")))


def test_a_budget_of_flops_buys_steps_in_proportion():
    """Twice the budget buys twice the steps, twice the batch half of them."""
    e = experiment()
    once, note = budget.limits(budget.Budget("flops", 1e9), e)
    twice, _ = budget.limits(budget.Budget("flops", 2e9), e)
    assert twice["steps"] == pytest.approx(2 * once["steps"], rel=0.01)
    larger = settings.complete(settings.load("digits/vae:smoke", ("data.batch=16",)))
    half, _ = budget.limits(budget.Budget("flops", 1e9), assemble.assemble(larger))
    assert half["steps"] == pytest.approx(once["steps"] / 2, rel=0.01)
    # A step costs at least three products (forward, and two backward) with every weight of the network.
    assert note["flops_per_step"] > 3 * 2 * 8 * 4_000


def test_a_budget_of_seconds_limits_the_run_itself():
    found, note = budget.limits(budget.Budget("seconds", 5.0), experiment(), passes=2.0)
    assert found == {"seconds": 5.0, "passes": 2.0}
    assert note["asked"] == 8


def test_a_budget_that_buys_nothing_is_refused():
    with pytest.raises(ConfigError, match="value"):
        build(budget.Budget, {"kind": "seconds", "value": -1}, "budget")
