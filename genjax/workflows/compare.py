"""Train, sample and score several models on the same data, under one budget and one protocol.

Every part leaves files and is skipped if they are there: a comparison that was killed resumes where it was.
An entry that fails is marked in the report, and the others go on.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import __version__, data, evaluation, files
from genjax.errors import GenjaxError, Interrupted
from genjax.evaluation import cost, repeats
from genjax.report import compare as report
from genjax.training import run_lock, signals
from genjax.workflows import budget, previous, sample, train, validate
from genjax.workflows import directory as directories
from genjax.workflows import evaluate as scoring
from genjax.workflows.assemble import Datasets, restore
from genjax.workflows.entries import Config, Training, read

__all__ = ["Config", "compare", "read"]
ERROR = "error.txt"
"""The traceback of an entry that failed with an error that genjax does not know."""
log = logging.getLogger("genjax")


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
      GenjaxError: entries cannot be trained or read different data, and nothing was trained; or entries
        failed, and what is finished is kept. Names all of these entries.
      ConfigError: the directory holds another comparison.
    """
    where = Path(directory) if directory else Path("runs") / f"compare-{config.name}"
    found = validate.all_trainings(config)
    datasets = Datasets()
    dataset = validate.entries(found, datasets)
    directories.create(where)
    with run_lock.exclusive(where):
        previous.keep(where, config, found)
        comparison = _Comparison(config, where, found, datasets, dataset, command)
        comparison.prepare()
        for name in found:
            comparison.enter(name)
        comparison.progress.part("report")
        page = report.write(where)
    validate.refuse(comparison.failed, "failed")
    return page


class _Comparison:
    """Run the parts of one comparison; `about` is what compare.json holds."""

    def __init__(
        self,
        config: Config,
        where: Path,
        trainings: Mapping[str, Sequence[Training]],
        datasets: Datasets,
        dataset: data.Dataset,
        command: str | None,
    ):
        self.config = config
        self.where = where
        self.trainings = trainings
        self.progress = Progress(3 + 2 * sum(len(each) for each in trainings.values()))
        self.datasets = datasets
        self.dataset = dataset
        self.about = _about(config, dataset, trainings, command)
        self.evaluation = config.protocol
        self.features: evaluation.Features | None = None
        self.reference: evaluation.ReferenceStatistics | None = None
        self.failed: dict[str, GenjaxError] = {}
        for name, error in previous.failures(where).items():
            if name in self.about["entries"]:
                self.about["entries"][name]["error"] = error

    def prepare(self) -> None:
        """Make the feature extractor and score held-out real data."""
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
        if not self.config.floor:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = evaluation.floor(self.dataset, self.features, self.evaluation, reference=self.reference)
        evaluation.write(path, scores)

    def enter(self, name: str) -> None:
        """Train and score one entry, once for each seed; a failure is recorded in the report."""
        self.about["entries"][name].pop("error", None)
        try:
            for training in self.trainings[name]:
                self._repeat(name, training)
            self._combine(name)
        except Interrupted:
            raise
        except GenjaxError as error:
            self._fails(name, error)
        except Exception as error:
            path = self.where / name / ERROR
            files.write_text(path, "".join(traceback.format_exception(error)))
            self._fails(name, GenjaxError(f"{type(error).__name__}: {error}", f"the traceback is in {path}"))
        self.save()
        report.write(self.where)
        jax.clear_caches()

    def _fails(self, name: str, error: GenjaxError) -> None:
        hint = error.hint or "fix its config"
        self.failed[name] = type(error)(
            error.message, f"{hint}; then run the same command again: what is finished is kept"
        )
        self.about["entries"][name]["error"] = error.message
        log.warning("entry %s failed: %s", name, error)

    def _repeat(self, name: str, training: Training) -> None:
        """Train and score one entry with one seed."""
        family = self.config.entries[name].family or name
        several = len(self.trainings[name]) > 1
        which = f"{family}, seed {training.settings.seed}" if several else family
        self.progress.part(f"{which}: training")
        self._train(training)
        self.progress.part(f"{which}: sampling and scoring")
        self._score(training)

    def _train(self, training: Training) -> None:
        """Train for the budget; a finished training takes no further step."""
        directory = self.where / training.run
        if (directory / "scores.json").exists():
            return
        experiment = train.prepare(training.settings, directory, self.datasets)
        limits, note = budget.limits(self.config.budget, experiment, training.passes)
        files.write_json(directory / "budget.json", note)
        train.train(train.limited(training.settings, **limits), directory, datasets=self.datasets)
        signals.proceed()

    def _score(self, training: Training) -> None:
        directory = self.where / training.run
        if (directory / "scores.json").exists():
            return
        trained = restore(directory, datasets=self.datasets)
        scoring.evaluate(trained, self.features, overrides=self.config.evaluate, reference=self.reference)

    def _combine(self, name: str) -> None:
        """Write the scores of an entry over all of its seeds."""
        each = [self.where / training.run / "scores.json" for training in self.trainings[name]]
        if len(each) > 1:
            found = repeats.of_trainings([evaluation.read(path) for path in each])
            evaluation.write(self.where / name / "scores.json", found)


def _describe(features: evaluation.Features | None) -> dict[str, Any]:
    """Return what the report says of a feature extractor."""
    return {} if features is None else features.about()


def _about(
    config: Config,
    dataset: data.Dataset,
    trainings: Mapping[str, Sequence[Training]],
    command: str | None,
) -> dict[str, Any]:
    """Return the content of compare.json, without the features and without errors."""
    entries = {
        name: {
            "family": e.family or name,
            "run": trainings[name][0].run,
            "repeats": [t.run for t in trainings[name][1:]],
            "scores": f"{name}/scores.json",
            "description": e.description,
        }
        for name, e in config.entries.items()
    }
    return {
        "name": config.name,
        "title": config.title or config.name,
        "dataset": dataset.name,
        "budget": dataclasses.asdict(config.budget),
        "seeds": config.seeds,
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
