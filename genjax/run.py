"""One run: a resolved config becomes a dataset, a model, a training, samples and scores.

The only room beside compare.py that knows all others; it wires them and computes nothing itself.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import data, evaluation
from genjax.config import build
from genjax.core import Batch, Model, Variables, row_keys
from genjax.data import show
from genjax.errors import CheckpointError, ConfigError, DataError, nearest
from genjax.evaluation import distances
from genjax.music import save as music
from genjax.settings import Settings, complete, model_module
from genjax.training import checkpoint, loop, run_lock

SAMPLING = 0xD4A3
"""The stream of sampling keys: fold_in(fold_in(key(seed), SAMPLING), row)."""
Columns = dict[str, np.ndarray]
Sampler = Callable[..., Columns]
"""(variables, num, prompt, seed, batch) -> num rows; row i depends on the seed and i alone."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a config resolves to. `frozen` holds the Variables of earlier stages."""

    settings: Settings
    dataset: data.Dataset
    model: Model
    frozen: dict[str, Variables]


def prepare(settings: Settings) -> Experiment:
    """Loads the data and builds the model; nothing is compiled.

    Raises:
      DataError: the dataset is unknown, missing or corrupt.
      ConfigError: the model cannot be built for this data.
    """
    dataset = data.load(settings.data)
    stages = {name: restore(Path(directory)) for name, directory in settings.stages.items()}
    try:
        model = model_module(settings.model_name).build(
            settings.model, dataset.spec, {n: stage.experiment.model for n, stage in stages.items()}
        )
    except ValueError as error:
        raise ConfigError(f"model {settings.model_name!r} on data {settings.data.name!r}: {error}") from error
    knobs(model, settings.sample, "sample")
    return Experiment(settings, dataset, model, {n: stage.variables for n, stage in stages.items()})


def knobs(model: Model, given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """`given` as keyword arguments of the model's sampler.

    Raises:
      ConfigError: names a knob that the sampler does not have, and the nearest it has.
    """
    if model.sample is None:
        return {}
    known = [p.name for p in inspect.signature(model.sample).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in given:
        if key not in known:
            raise ConfigError(
                f"unknown knob {path + '.' + key!r}{nearest(key, known)}",
                f"this model's sampler has: {', '.join(known) or 'none'}",
            )
    return dict(given)


def directory_of(settings: Settings, directory: str | Path | None = None) -> Path:
    """Where a run lives: `directory`, or runs/<name>."""
    return Path(directory) if directory else Path("runs") / settings.name


def players(model: Model) -> list[str]:
    """Whose parameters are learned by gradient."""
    return sorted({phase.player for phase in model.phases.values()})


@dataclasses.dataclass(frozen=True)
class Trained:
    """An experiment with what it has learned: variables as they were saved, not yet finished."""

    experiment: Experiment
    variables: Variables
    step: int
    record: dict[str, Any]
    directory: Path


def train(
    settings: Settings, directory: str | Path | None = None, devices: Sequence[Any] | None = None
) -> Path:
    """Trains, or goes on where the directory's last checkpoint left off; returns the directory.

    Args:
      directory: runs/<name> where it is None.
      devices: all of them where it is None.

    Raises:
      GenjaxError: any error that a user can mend; the last good checkpoint is kept.
    """
    where = directory_of(settings, directory)
    experiment = prepare(settings)
    model, dataset = experiment.model, experiment.dataset
    make_directory(where)
    # Held before config.json is written: a second process that is refused must leave no trace.
    with run_lock.exclusive(where):
        _same_run(where, experiment)
        write_json(where / "config.json", settings.raw)
        dataset.save(where)
        picture = None if model.sample is None else picture_hook(experiment, where)
        loop.train(
            model,
            dataset,
            settings.train,
            {player: settings.optimizer_of(player) for player in players(model)},
            directory=where,
            batch=settings.data.batch,
            eval_batch=settings.data.eval_batch,
            order=settings.data.order,
            seed=settings.seed,
            data_seed=settings.data.seed,
            identity=identity(experiment),
            frozen=experiment.frozen,
            hooks=loop.Hooks(on_sample=picture),
            devices=devices,
        )
    return where


def make_directory(where: Path) -> None:
    """Makes a run directory.

    Raises:
      CheckpointError: it cannot be made or written to.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{where} cannot be made: {error}", "choose another directory") from error
    if not os.access(where, os.W_OK):
        raise CheckpointError(f"{where} cannot be written to", "choose another directory with --dir")


def _same_run(where: Path, experiment: Experiment) -> None:
    """Refuses to go on with another run's directory, before its config.json would be overwritten.

    Raises:
      ConfigError: names the first field that differs.
    """
    if not checkpoint.saved_steps(where) or not (where / "config.json").exists():
        return
    # Completed: a field that a later version has added is at its default in both.
    old, new = (json.loads(json.dumps(s.raw)) for s in (complete(saved_config(where)), experiment.settings))
    for key, was, now in _differences(old, new):
        if key.split(".")[0] in ("model", "optimizer", "optimizers", "stages", "seed", "data"):
            raise ConfigError(
                f"{where} holds a run with {key}={was!r}, and this config has {now!r}",
                "give --dir another directory, or go on with the config that it was made with",
            )


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*new, *(k for k in old if k not in new)]
        return [
            d for k in keys for d in _differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))
        ]
    return [] if old == new else [(path, old, new)]


def identity(experiment: Experiment) -> dict[str, Any]:
    """What a checkpoint must share to be resumed: another model or other stages are another run."""
    s = experiment.settings
    return {
        "model": {"name": s.model_name, **_chosen(s.model)},
        "optimizer": _chosen(s.optimizer),
        "optimizers": s.raw["optimizers"],
        "stages": {name: checkpoint.digest(v) for name, v in experiment.frozen.items()},
    }


def _chosen(config: Any) -> dict[str, Any]:
    """The fields that are not at their defaults: one that a later version adds makes no other run of it."""
    values = dataclasses.asdict(config)
    return {f.name: values[f.name] for f in dataclasses.fields(config) if values[f.name] != f.default}


def restore(directory: str | Path, step: str | int = "latest") -> Trained:
    """A run as it was saved: its config, data, model and finished variables.

    Raises:
      DataError: the directory has no readable config.json.
      CheckpointError: it has no such checkpoint.
    """
    directory = Path(directory)
    experiment = prepare(complete(saved_config(directory)))
    example = experiment.dataset.spec.example(1)
    like = jax.eval_shape(
        lambda key: experiment.model.init(key, example, experiment.frozen), jax.random.key(0)
    )
    found = checkpoint.load(directory, _step(step), like=like)
    variables = found.variables.replace(frozen=experiment.frozen)
    return Trained(experiment, variables, found.step, found.record, directory)


def _step(step: str | int) -> int | Any:
    if step in ("latest", None):
        return None
    if step == "best":
        return "best"
    try:
        return int(step)
    except ValueError:
        raise ConfigError(f"--step={step!r} is not latest, best or a number") from None


def saved_config(directory: Path) -> dict[str, Any]:
    """A run directory's config.json.

    Raises:
      DataError: it is missing or is not JSON.
    """
    path = directory / "config.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        near = nearest(directory.name, [p.name for p in directory.parent.glob("*")])
        raise DataError(
            f"no run in {directory}{near}", "give a directory that `genjax train` wrote"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "restore it, or train in a new directory") from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(path)


def labels(dataset: data.Dataset, num: int, label: int | None = None) -> Batch:
    """The prompt of `num` rows: a class, or every class in turn; {} where the data has none.

    Raises:
      ConfigError: there is no such class.
    """
    classes = dataset.spec.classes()
    if label is not None and not 0 <= label < classes:
        raise ConfigError(
            f"no class {label} in {dataset.name}",
            f"classes are 0 to {classes - 1}" if classes else "it has none",
        )
    if not classes:
        return {}
    rows = np.arange(num) % classes if label is None else np.full(num, label)
    return {"label": rows.astype(np.int32)}


def picture_hook(experiment: Experiment, directory: Path) -> Callable[[Variables, int], None]:
    """What training calls to leave a picture (or a text) of what the model draws."""
    dataset, given = experiment.dataset, experiment.settings.sample
    num = 10 * max(1, min(experiment.dataset.spec.classes() or 4, 10))

    draw = sampler(experiment, given)

    def hook(variables: Variables, step: int) -> None:
        drawn = draw(variables, num, labels(dataset, num), experiment.settings.seed)
        save_samples(dataset, drawn, directory / "samples" / f"step_{step:08d}", columns=10)

    return hook


def sampler(experiment: Experiment, given: Mapping[str, Any]) -> Sampler:
    """The model's sampler with these knobs, compiled once for every shape of prompt.

    Raises:
      ConfigError: an unknown knob, or a model that cannot be sampled from.
    """
    sample = experiment.model.sample
    if sample is None:
        raise ConfigError(
            f"{experiment.settings.model_name!r} has no sampler", "it is used through its predictions"
        )
    chosen, finish = knobs(experiment.model, given, "sample"), jax.jit(experiment.model.finish)
    compiled = jax.jit(functools.partial(sample, **chosen))

    def draw(variables: Variables, num: int, prompt: Batch, seed: int = 0, batch: int = 256) -> Columns:
        size, parts, variables = min(batch, num), [], finish(variables)
        for first in range(0, num, size):
            # The last batch is drawn whole and cut, so that one program serves all.
            rows = np.arange(first, first + size)
            part = {k: np.asarray(v)[np.minimum(rows, num - 1)] for k, v in prompt.items()}
            keys = row_keys(jax.random.key(seed), SAMPLING, jax.numpy.asarray(rows))
            parts.append(jax.device_get(compiled(variables, keys, part)))
        drawn = {k: np.concatenate([p[k] for p in parts])[:num] for k in parts[0]}
        return {**{k: np.asarray(v) for k, v in prompt.items() if k not in drawn}, **drawn}

    return draw


def save_samples(
    dataset: data.Dataset, rows: Mapping[str, np.ndarray], path: Path, columns: int = 10
) -> Path:
    """Writes rows where a person can look at them: PNG for images and points, text for tokens, and for music
    a PNG of piano rolls beside what can be heard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if music.is_music(rows, dataset.tokenizer):
        voiced: Any = dataset.tokenizer
        return music.save_music(rows, voiced, path, columns=max(1, min(columns, 3)))
    if "image" in rows:
        from genjax.report import grids

        height = rows["image"].shape[1]
        levels = dataset.spec["image"].levels or 256
        scale = max(1, 32 // height)
        return grids.save(path.with_suffix(".png"), rows["image"], levels, columns, scale)
    if "point" in rows:
        show.scatter(np.asarray(rows["point"]), rows.get("label")).save(path.with_suffix(".png"))
        return path.with_suffix(".png")
    written = next((rows[name] for name in ("target", "tokens") if name in rows), None)
    if written is not None and dataset.tokenizer is not None:
        texts = show.texts(dataset.tokenizer, rows, "target" if "target" in rows else "tokens")
        if "source" in rows and "target" in rows:
            sources = show.texts(dataset.tokenizer, rows, "source")
            texts = [f"{a}\n→ {b}" for a, b in zip(sources, texts, strict=True)]
        path.with_suffix(".txt").write_text("\n\n---\n\n".join(texts) + "\n", "utf-8")
        return path.with_suffix(".txt")
    return save_arrays(path.with_suffix(".npz"), rows)


def save_arrays(path: Path, rows: Mapping[str, np.ndarray]) -> Path:
    """Writes named arrays as a compressed npz; makes the folder. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{k: np.asarray(v) for k, v in rows.items()})  # type: ignore[arg-type]
    return path


def evaluate(
    trained: Trained,
    features: evaluation.Features | None,
    *,
    given: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    ruler: evaluation.Ruler | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[evaluation.Score]:
    """Scores a run by every criterion that its data and family allow; writes scores.json and samples.

    Args:
      given: sampler knobs over the config's own.
      overrides: fields of the evaluate section over the config's own.
      seconds: of training, where they are known.
      ruler: of this dataset, features and evaluation, where several runs are held against it.
    """
    experiment = trained.experiment
    raw = {**dataclasses.asdict(experiment.settings.evaluate), **(overrides or {})}
    config = build(evaluation.Config, raw, "evaluate")
    scores, samples = evaluation.evaluate(
        experiment.model,
        trained.variables,
        experiment.dataset,
        features,
        config,
        knobs(experiment.model, {**experiment.settings.sample, **(given or {})}, "sample"),
        progress,
        ruler=ruler,
        train_seconds=seconds,
    )
    if samples:
        keep_samples(trained, samples)
    evaluation.write(trained.directory / "scores.json", scores)
    return scores


def keep_samples(trained: Trained, samples: Columns, most: int = 1000) -> None:
    """Writes the samples that were scored, a picture of the first, and their nearest training rows."""
    folder, dataset = trained.directory / "samples", trained.experiment.dataset
    folder.mkdir(parents=True, exist_ok=True)
    save_samples(dataset, {k: v[:100] for k, v in samples.items()}, folder / "final", columns=10)
    save_arrays(folder / "samples.npz", {k: v[:most] for k, v in samples.items()})
    if "image" in samples:
        images = samples["image"][:100]
        train = dataset.train.rows(np.arange(min(len(dataset.train), 50_000)))["image"]
        levels = (dataset.spec["image"].levels or 256) - 1
        flat = lambda x: x.reshape(len(x), -1).astype(np.float32) / levels
        distance, index = distances.nearest(flat(images), flat(train), 1)
        pairs = {"image": images, "neighbour": train[index[:, 0]], "distance": distance[:, 0]}
        save_arrays(folder / "neighbours.npz", pairs)
