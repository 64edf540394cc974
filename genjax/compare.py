"""Several models side by side: the same data, the same budget, the same protocol, one report.

Every stage leaves files and is skipped where they are there: killed and started again, a comparison
goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from genjax import __version__, data, evaluation, features, run
from genjax.config import build
from genjax.errors import ConfigError, GenjaxError
from genjax.evaluation import cost
from genjax.evaluation.ruler import element_of
from genjax.report import compare as report
from genjax.settings import Settings, complete, load
from genjax.training import optimizers, run_lock, step
from genjax.training.engine import Engine


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every entry may spend on training.

    Attributes:
      kind: "steps"; "examples" (rows of training data: of text, equal tokens); "seconds", which one
        calibration turns into steps; "flops", divided by the FLOPs of a step as the jaxpr counts them.
      value: how many.
    """

    kind: Literal["steps", "examples", "seconds", "flops"] = "seconds"
    value: float = 60.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Attributes:
      config: its config file or short name, with its size.
      family: as the report names it.
      description: a word on what it is.
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
    """A comparison.

    Attributes:
      name: of its directory, runs/compare-<name>.
      title: of the report.
      seed: of every entry's training.
      budget: of every entry.
      features: the config of the classifier in whose features images are judged; None for raw pixels.
      entries: {name: Entry}, in the report's order.
      evaluate: fields of the evaluate section, the same for all.
    """

    name: str
    entries: dict[str, Entry]
    title: str = ""
    seed: int = 0
    budget: Budget = Budget()
    features: str | None = None
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)


def read(name: str, overrides: list[str]) -> Config:
    """The comparison of a config file.

    Raises:
      ConfigError: an unknown key; no entry.
    """
    raw = load(name, overrides)
    config = build(Config, raw, "config")
    if not config.entries:
        raise ConfigError(f"{name} compares nothing", "give it config.entries")
    build(evaluation.Config, config.evaluate, "evaluate")
    return config


class Progress:
    """Says which stage of how many is under way, and about how long the rest will take."""

    def __init__(self, stages: int, write: Callable[[str], None] = print):
        self.stages, self.done, self.began, self.write = stages, 0, time.monotonic(), write

    def stage(self, text: str) -> None:
        """A stage begins."""
        spent = time.monotonic() - self.began
        self.done += 1
        left = ""
        if self.done > 2:
            left = f", about {spent / (self.done - 1) * (self.stages - self.done + 1) / 60:.1f} min left"
        self.write(f"[{self.done}/{self.stages}] {text} ({spent / 60:.1f} min so far{left})")


def compare(config: Config, directory: str | Path | None = None, command: str | None = None) -> Path:
    """Trains, samples and scores every entry, and writes report.html and report.json.

    Returns:
      The page's path.

    Raises:
      GenjaxError: as train and evaluate do; what is finished is kept.
    """
    where = Path(directory) if directory else Path("runs") / f"compare-{config.name}"
    resolved = {name: _settings(config, entry) for name, entry in config.entries.items()}
    progress = Progress(3 + 2 * len(resolved))
    run.make_directory(where)
    with run_lock.exclusive(where):
        datasets = {n: data.load(s.data) for n, s in resolved.items()}
        dataset = _one_dataset(datasets)
        about = _about(config, dataset, command)
        _keep_config(where, config)
        run.write_json(where / "compare.json", about)
        progress.stage("feature space")
        judge, about["features"] = features.of(config.features, dataset, where / "features", progress.write)
        progress.stage("real against real")
        judged = build(evaluation.Config, config.evaluate, "evaluate")
        ruler = evaluation.Ruler(dataset, judge, judged) if element_of(dataset.spec) else None
        if ruler is not None:
            _floor(ruler, where)
        run.write_json(where / "compare.json", about)
        for name, settings in resolved.items():
            progress.stage(f"{config.entries[name].family or name}: training")
            settings = _train(config, name, settings, where)
            progress.stage(f"{config.entries[name].family or name}: sampling and scoring")
            _score(config, name, judge, ruler, where)
            report.write(where)
            jax.clear_caches()
        progress.stage("report")
        return report.write(where)


def _settings(config: Config, entry: Entry) -> Settings:
    raw = load(entry.config, entry.overrides)
    evaluate = {**raw.get("evaluate", {}), **config.evaluate}
    return complete({**raw, "seed": config.seed, "evaluate": evaluate})


def _one_dataset(datasets: Mapping[str, data.Dataset]) -> data.Dataset:
    """The dataset that all entries share.

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
    """Versions and machine, for the report."""
    import importlib.metadata as metadata

    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "genjax": __version__,
        "python": platform.python_version(),
        **{p: metadata.version(p) for p in packages},
        **cost.machine(),
    }


def _keep_config(where: Path, config: Config) -> None:
    """Keeps the comparison's config; refuses to mix two in one directory.

    Raises:
      ConfigError: the directory holds another comparison.
    """
    path, raw = where / "config.json", json.loads(json.dumps(dataclasses.asdict(config)))
    if path.exists():
        old = run.saved_config(where)
        changed = sorted(k for k in raw if old.get(k) != raw[k])
        if changed:
            key = changed[0]
            raise ConfigError(
                f"{where} holds a comparison with another {key}: {old.get(key)!r}, here {raw[key]!r}",
                "give --dir another directory, or remove that one",
            )
        return
    run.write_json(path, raw)


def _floor(ruler: evaluation.Ruler, where: Path) -> None:
    dataset, path = ruler.dataset, where / "floor" / "scores.json"
    if path.exists():
        return
    rows = dataset.eval.rows(np.arange(min(len(dataset.eval), 1000)))
    run.save_arrays(where / "real" / "samples.npz", rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    evaluation.write(path, evaluation.floor(dataset, ruler.features, ruler.config, ruler=ruler))


def _train(config: Config, name: str, settings: Settings, where: Path) -> Settings:
    """Trains an entry for its budget. The steps are decided once and kept in its config.json."""
    directory = where / name
    if (directory / "config.json").exists():
        steps = run.saved_config(directory)["train"]["steps"]
    else:
        steps, note = budget_steps(config.budget, config.entries[name], settings)
        run.write_json(directory / "budget.json", note)
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, steps=steps))
    run.train(settings, directory)
    return settings


def budget_steps(budget: Budget, entry: Entry, settings: Settings) -> tuple[int, dict[str, Any]]:
    """The steps that a budget allows, and how they were found."""
    experiment = run.prepare(settings)
    note: dict[str, Any] = dataclasses.asdict(budget)
    if budget.kind == "steps":
        steps = int(budget.value)
    elif budget.kind == "examples":
        steps = math.ceil(budget.value / settings.data.batch)
    elif budget.kind == "flops":
        example = experiment.dataset.spec.example(1)
        form = jax.eval_shape(
            lambda key: experiment.model.init(key, example, experiment.frozen), jax.random.key(0)
        )
        flops = cost.training_flops(experiment.model, form, experiment.dataset.spec)
        note["flops_per_step"] = flops.total * settings.data.batch
        steps = int(budget.value / max(note["flops_per_step"], 1))
    else:
        note["seconds_per_step"] = seconds_per_step(experiment)
        steps = int(budget.value / note["seconds_per_step"])
    if entry.passes is not None:
        most = int(np.ceil(entry.passes * len(experiment.dataset.train) / settings.data.batch))
        note["passes"], steps = entry.passes, min(steps, most)
    note["steps"] = max(1, steps)
    return note["steps"], note


def seconds_per_step(experiment: run.Experiment, seconds: float = 3.0) -> float:
    """Return the median seconds of a training step over one cycle of phases, on a temporary state."""
    settings, model = experiment.settings, experiment.model
    players = {
        p: optimizers.make(settings.optimizer_of(p), 1000, optimizers.factors(model, p))
        for p in run.players(model)
    }
    stream = experiment.dataset.train.stream(settings.data.order, settings.data.batch, settings.seed)
    engine = Engine(model, players, settings.train, stream[0], frozen=experiment.frozen, seed=settings.seed)
    state, cycle = engine.create(), max(phase.interval for phase in model.phases.values())
    times: list[float] = []
    began = None
    while began is None or time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        for i in range(cycle):
            batch = engine.put([stream[i]])
            state, packed = engine.step(state, batch, (step.due(model, i),))
        jax.block_until_ready((state, packed))
        if began is None:  # the first cycle compiles
            began = time.perf_counter()
            continue
        times.append((time.perf_counter() - start) / cycle)
    return float(np.median(times))


def _score(config: Config, name: str, judge: Any, ruler: evaluation.Ruler | None, where: Path) -> None:
    directory = where / name
    if (directory / "scores.json").exists():
        return
    trained = run.restore(directory)
    try:
        seconds = training_seconds(directory)
        run.evaluate(trained, judge, overrides=config.evaluate, seconds=seconds, ruler=ruler)
    except GenjaxError as error:
        raise type(error)(f"scoring {name}: {error.message}", error.hint) from error


def training_seconds(directory: Path) -> float | None:
    """Seconds that a run's training took, all sittings together, as its metrics say."""
    try:
        lines = (directory / "metrics.jsonl").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return None
    seconds = [json.loads(line).get("seconds") for line in lines]
    known = [s for s in seconds if s is not None]
    return max(known) if known else None
