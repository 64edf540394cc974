"""Train, sample and score several models on the same data, under one budget and one protocol.

Every part leaves files and is skipped if they are there: a comparison that was killed resumes where it was.
An entry that fails is marked in the report, and the others go on.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import __version__, data, evaluation, files
from genjax.config import build
from genjax.errors import ConfigError, GenjaxError, Interrupted
from genjax.evaluation import cost
from genjax.report import compare as report
from genjax.settings import Settings, complete, load
from genjax.training import run_lock, signals
from genjax.workflows import directory as directories
from genjax.workflows import evaluate as scoring
from genjax.workflows import sample, train
from genjax.workflows.assemble import Datasets, assemble, restore
from genjax.workflows.budget import Budget, steps

log = logging.getLogger("genjax")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Describe one model of a comparison.

    Attributes:
      config: its config file or short name, with its size.
      family: as the report names it.
      description: a phrase on what it is.
      passes: at most so many passes over the data, whatever the budget (a counting model needs one).
      overrides: "section.field=value" over its config.
    """

    config: str
    family: str = ""
    description: str = ""
    passes: float | None = None
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a comparison.

    Attributes:
      name: of its directory, runs/compare-<name>.
      title: of the report.
      seed: of every entry's training.
      budget: of every entry.
      features: the feature extractor, e.g. "pixels" or "classifier:digits/classifier"; None for the
        dataset's default.
      entries: {name: Entry}, in the report's order.
      evaluate: fields of the evaluate section, the same for all.
    """

    name: str
    entries: dict[str, Entry]
    title: str = ""
    seed: int = 0
    budget: Budget = dataclasses.field(default_factory=Budget)
    features: str | None = None
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)


def read(name: str, overrides: list[str]) -> Config:
    """Return the comparison of a config file.

    Raises:
      ConfigError: an unknown key, or no entry.
    """
    raw = load(name, overrides)
    config = build(Config, raw, "config")
    if not config.entries:
        raise ConfigError(f"{name} compares nothing", "give it config.entries")
    build(evaluation.Config, config.evaluate, "evaluate")
    return config


class Progress:
    """Print which part of how many is under way, and about how long the rest will take."""

    def __init__(self, parts: int, write: Callable[[str], None] = print):
        self.parts = parts
        self.done = 0
        self.began = time.monotonic()
        self.write = write

    def part(self, text: str) -> None:
        """Announce that a part begins."""
        spent = time.monotonic() - self.began
        self.done += 1
        left = ""
        if self.done > 2:
            left = f", about {spent / (self.done - 1) * (self.parts - self.done + 1) / 60:.1f} min left"
        self.write(f"[{self.done}/{self.parts}] {text} ({spent / 60:.1f} min so far{left})")


def compare(config: Config, directory: str | Path | None = None, command: str | None = None) -> Path:
    """Train, sample and score every entry, and write report.html and report.json.

    Returns:
      The path of report.html.

    Raises:
      ConfigError: an entry's config is wrong, or entries read different data; nothing is trained.
      GenjaxError: every entry failed; what is finished is kept.
    """
    where = Path(directory) if directory else Path("runs") / f"compare-{config.name}"
    resolved = {name: _settings(config, entry) for name, entry in config.entries.items()}
    progress = Progress(3 + 2 * len(resolved))
    directories.create(where)
    with run_lock.exclusive(where):
        comparison = _Comparison(config, where, resolved, progress, command)
        comparison.prepare()
        for name in resolved:
            comparison.enter(name)
        progress.part("report")
        page = report.write(where)
    comparison.check_failures()
    return page


class _Comparison:
    """Run the parts of one comparison; `about` is what compare.json holds."""

    def __init__(
        self,
        config: Config,
        where: Path,
        resolved: Mapping[str, Settings],
        progress: Progress,
        command: str | None,
    ):
        self.config = config
        self.where = where
        self.resolved = resolved
        self.progress = progress
        self.datasets = Datasets()
        found = {name: self.datasets.load(s.data) for name, s in resolved.items()}
        self.dataset = _one_dataset(found)
        for settings in resolved.values():
            if not settings.stages:  # a wrong config fails before anything is trained
                assemble(settings, self.datasets)
        self.about = _about(config, self.dataset, command)
        self.evaluation = build(evaluation.Config, config.evaluate, "evaluate")
        self.features: evaluation.Features | None = None
        self.reference: evaluation.ReferenceStatistics | None = None
        self.failed: dict[str, GenjaxError] = {}

    def prepare(self) -> None:
        """Make the feature extractor and score held-out real data."""
        _keep_config(self.where, self.config)
        self.save()
        self.progress.part("feature extractor")
        root = self.where / "features"
        self.features = scoring.features(
            self.config.features, self.dataset, root, self.datasets, self.progress.write
        )
        self.about["features"] = _describe(self.features)
        self.progress.part("held-out real data")
        if evaluation.measurable(self.dataset.spec):
            self.reference = evaluation.ReferenceStatistics(self.dataset, self.features, self.evaluation)
            self._floor()
        self.save()

    def save(self) -> None:
        files.write_json(self.where / "compare.json", self.about)

    def _floor(self) -> None:
        path = self.where / "floor" / "scores.json"
        if path.exists():
            return
        rows = self.dataset.eval.rows(np.arange(min(len(self.dataset.eval), scoring.KEPT)))
        sample.save_arrays(self.where / "real" / "samples.npz", rows)
        # The report has no tokenizer: it shows real texts and captions from these files.
        sample.save(
            self.dataset, {k: v[: sample.SHOWN] for k, v in rows.items()}, self.where / "real" / "final"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = evaluation.floor(self.dataset, self.features, self.evaluation, reference=self.reference)
        evaluation.write(path, scores)

    def enter(self, name: str) -> None:
        """Train and score one entry; a failure is recorded in the report."""
        family = self.config.entries[name].family or name
        entry = self.about["entries"][name]
        entry.pop("error", None)
        try:
            self.progress.part(f"{family}: training")
            self._train(name)
            self.progress.part(f"{family}: sampling and scoring")
            self._score(name)
        except Interrupted:
            raise
        except GenjaxError as error:
            self.failed[name] = error
            entry["error"] = error.message
            log.warning("entry %s failed: %s", name, error)
        self.save()
        report.write(self.where)
        jax.clear_caches()

    def _train(self, name: str) -> None:
        """Train an entry for its budget. The steps are decided once and kept in its config.json."""
        directory = self.where / name
        settings = self.resolved[name]
        if (directory / directories.CONFIG).exists():
            count = directories.saved_settings(directory).train.steps
        else:
            experiment = train.prepare(settings, directory, self.datasets)
            count, note = steps(self.config.budget, experiment, self.config.entries[name].passes)
            files.write_json(directory / "budget.json", note)
        train.train(train.with_steps(settings, count), directory, datasets=self.datasets)
        signals.proceed()

    def _score(self, name: str) -> None:
        directory = self.where / name
        if (directory / "scores.json").exists():
            return
        trained = restore(directory, datasets=self.datasets)
        scoring.evaluate(trained, self.features, overrides=self.config.evaluate, reference=self.reference)

    def check_failures(self) -> None:
        """Raise the first failure again, after the report is written.

        Raises:
          GenjaxError: an entry failed.
        """
        for name, error in self.failed.items():
            raise type(error)(
                f"{len(self.failed)} of {len(self.resolved)} entries failed; {name}: {error.message}",
                error.hint or "fix its config and run the same command again: what is finished is kept",
            )


def _describe(features: evaluation.Features | None) -> dict[str, Any]:
    """Return what the report says of a feature extractor."""
    return {} if features is None else features.about()


def _settings(config: Config, entry: Entry) -> Settings:
    raw = load(entry.config, entry.overrides)
    evaluate = {**raw.get("evaluate", {}), **config.evaluate}
    return complete({**raw, "seed": config.seed, "evaluate": evaluate})


def _one_dataset(datasets: Mapping[str, data.Dataset]) -> data.Dataset:
    """Return the dataset that all entries share.

    Raises:
      ConfigError: two entries read different data.
    """
    first, *others = datasets.items()
    for name, dataset in others:
        if dataset.fingerprint != first[1].fingerprint:
            raise ConfigError(
                f"entries {first[0]!r} and {name!r} read different data: {first[1].name} "
                f"({first[1].fingerprint[:12]}) and {dataset.name} ({dataset.fingerprint[:12]})",
                "give them the same data section, or compare them apart",
            )
    return first[1]


def _about(config: Config, dataset: data.Dataset, command: str | None) -> dict[str, Any]:
    entries = {
        name: {"family": e.family or name, "run": name, "description": e.description}
        for name, e in config.entries.items()
    }
    return {
        "name": config.name,
        "title": config.title or config.name,
        "dataset": dataset.name,
        "budget": dataclasses.asdict(config.budget),
        "entries": entries,
        "floor": {"scores": "floor/scores.json"},
        "features": {},
        "environment": environment(),
        "command": command or shlex.join(["genjax", *sys.argv[1:]]),
    }


def environment() -> dict[str, Any]:
    """Return versions and machine, for the report."""
    import importlib.metadata as metadata

    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "genjax": __version__,
        "python": platform.python_version(),
        **{p: metadata.version(p) for p in packages},
        **cost.machine(),
    }


def _keep_config(where: Path, config: Config) -> None:
    """Write the comparison's config; refuse to mix two comparisons in one directory.

    Raises:
      ConfigError: the directory holds another comparison.
    """
    path = where / directories.CONFIG
    raw = json.loads(json.dumps(dataclasses.asdict(config)))
    if path.exists():
        old = directories.saved_config(where)
        changed = sorted(k for k in raw if old.get(k) != raw[k])
        if changed:
            key = changed[0]
            raise ConfigError(
                f"{where} holds a comparison with another {key}: {old.get(key)!r}, here {raw[key]!r}",
                "give --dir another directory, or remove that one",
            )
        return
    files.write_json(path, raw)
