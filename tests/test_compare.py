"""A comparison: one budget, one ruler, one report; interrupted, it goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genjax import compare, settings
from genjax.config import build
from genjax.errors import ConfigError

ENTRIES = {
    "counts": {"config": "digits/ngram:smoke", "family": "n-gram", "passes": 0.01},
    "codes": {"config": "digits/vae:smoke", "family": "VAE"},
}


def config(**changes) -> compare.Config:
    raw = {
        "name": "tiny",
        "entries": ENTRIES,
        "budget": {"kind": "steps", "value": 6},
        "features": None,
        "evaluate": {"samples": 32, "sets": 2, "speed_batches": (4,), "repeats": 1},
    }
    return build(compare.Config, {**raw, **changes}, "config")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose second entry failed to score the first time."""
    directory = tmp_path_factory.mktemp("compare")
    scored, calls = compare._score, []

    def dies(config, name, *rest):
        calls.append(name)
        if name == "codes":
            raise KeyboardInterrupt
        return scored(config, name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "_score", dies)
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


@pytest.mark.parametrize("kind", ["flops", "seconds"])
def test_budgets_become_steps(kind: str):
    entry = build(compare.Entry, ENTRIES["codes"], "entry")
    resolved = settings.complete(settings.load(entry.config))
    steps, note = compare.budget_steps(compare.Budget(kind, 1e9 if kind == "flops" else 1.0), entry, resolved)
    per_step = note["flops_per_step" if kind == "flops" else "seconds_per_step"]
    assert steps == max(1, int((1e9 if kind == "flops" else 1.0) / per_step))
    assert note["kind"] == kind
