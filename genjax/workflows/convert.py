"""Exchange runs with the directories of other libraries (Hugging Face's transformers).

import_run("gpt2/", "runs/gpt2")        then: genjax sample runs/gpt2 --prompt="..."
export_run("runs/pydoc-bert", "bert/")  then, in transformers: from_pretrained("bert/")
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from genjax import files, interop, settings
from genjax.errors import ConfigError, DataError
from genjax.training import checkpoint, loop, optimizers, run_lock
from genjax.training.step import TrainState
from genjax.training.trees import difference, entry, named
from genjax.workflows import directory as directories
from genjax.workflows.assemble import Experiment, assemble, identity, restore

TOKENIZER = "tokenizer.json"
IMPORTED = "imported.json"
"""The config.json of the other library and the types of its tensors, which an export keeps."""


def import_run(
    directory: str | Path,
    where: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Path:
    """Write a run directory at step 0 from another library's model: to sample, evaluate or train further.

    Args:
      directory: config.json, model.safetensors and tokenizer.json.
      where: a directory without checkpoints.
      data: fields of the data section over the defaults: what it is evaluated on and trained with (`pydoc`).
      name: of the run; the directory's where it is None.

    Raises:
      DataError: a file is missing or corrupt, or an unknown architecture.
      ConfigError: the tokenizer or the data does not fit the model.
      CheckpointError: the run directory cannot be written, or holds a run.
    """
    directory = Path(directory)
    where = Path(where)
    loaded = interop.load(directory)
    directories.create(where)
    if checkpoint.saved_steps(where):
        raise ConfigError(f"{where} holds a run", "give a new directory")
    source = directory / TOKENIZER
    if not source.exists():
        raise DataError(
            f"no {TOKENIZER} in {directory}", "fetch the file that is published beside the weights"
        )
    kept = (where / TOKENIZER).absolute()
    with run_lock.exclusive(where):
        shutil.copyfile(source, kept)
        text = {"name": "pydoc", "batch": 8, "eval_batch": 8, "length": _length(loaded)}
        raw = {
            "name": name or directory.absolute().name,
            "data": {**text, "tokenizer": "hf", "tokenizer_file": str(kept), **(data or {})},
            "model": loaded.fields,
            "optimizer": {"name": "adamw", "learning_rate": 1e-5},
            "train": {"steps": 1000},
        }
        experiment = assemble(settings.complete(raw))
        _check_vocabulary(directory, loaded, experiment)
        example = experiment.dataset.spec.example(1)
        like = jax.eval_shape(lambda key: experiment.model.init(key, example, {}), jax.random.key(0))
        form = {p: entry(x) for p, x in named(like.params).items()}
        if found := difference({p: entry(x) for p, x in named(loaded.variables.params).items()}, form):
            raise ConfigError(
                f"{directory}: the weights do not fit what config.json and tokenizer ask for: {found}",
                "give the tokenizer.json of these weights, and the data.length of their training",
            )
        _write(
            where,
            experiment,
            loaded.variables.replace(params=jax.tree.map(jnp.asarray, loaded.variables.params)),
        )
        files.write_json(where / IMPORTED, {"config": loaded.config, "dtypes": loaded.dtypes})
    return where


def _check_vocabulary(directory: Path, loaded: interop.Loaded, experiment: Experiment) -> None:
    """Refuse a tokenizer of another size than the embedding, for models without a field for the latter."""
    tokenizer = experiment.dataset.tokenizer
    rows = loaded.config.get("vocab_size")
    if tokenizer is None or rows is None or "vocabulary" in loaded.fields or rows == tokenizer.vocabulary:
        return
    known = tokenizer.vocabulary
    hint = "give the tokenizer.json of these weights"
    if rows > known:
        hint = (
            f"if the last {rows - known} rows are padding, remove them: in transformers, "
            f"resize_token_embeddings({known}), then save_pretrained"
        )
    raise ConfigError(f"{directory}: the embedding has {rows} rows, and {TOKENIZER} has {known} tokens", hint)


def _length(loaded: interop.Loaded) -> int:
    """Return the default data.length: the number of learned positions, or 256 without any."""
    places = loaded.variables.params["model"].get("position_embedding")
    if places is None:
        return 256
    return len(places) - (1 if "positions" in loaded.fields else 0)


def _write(where: Path, experiment: Experiment, variables: Any) -> None:
    """Write what training would have left behind at step 0."""
    s = experiment.settings
    model = experiment.model
    opt = {
        p: optimizers.make(s.optimizer_of(p), s.train.steps).init(params)
        for p, params in variables.params.items()
    }
    ema = {
        n: {p: variables.params[p] for p in a.players or variables.params}
        for n, a in s.train.averages.items()
    }
    carry = model.carry(experiment.dataset.spec.example(s.data.batch))
    state = TrainState(jnp.zeros((), jnp.int32), variables.replace(ema=ema), opt, carry)
    directories.save_config(where, s.raw)
    experiment.dataset.save(where)
    whole = loop.complete_identity(
        identity(experiment, {}),
        experiment.dataset,
        order=s.data.order,
        batch=s.data.batch,
        seed=s.seed,
        data_seed=s.data.seed,
        accumulate=s.train.accumulate,
    )
    record = {"identity": whole, "dataset": experiment.dataset.digest, "seconds": 0.0, "metrics": {}}
    kept = checkpoint.Checkpoints(where)
    try:
        kept.save(state, record)
    finally:
        kept.close()


def _imported(where: Path) -> dict[str, Any]:
    """Return `config` and `like` of interop.save as the run was imported; nothing for another run."""
    path = where / IMPORTED
    try:
        found = json.loads(path.read_text("utf-8"))
        return {"config": dict(found["config"]), "like": dict(found["dtypes"])}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}", "remove it to export in float32") from error


def export_run(
    where: str | Path, directory: str | Path, *, step: str | int = "latest", average: str | None = "eval"
) -> Path:
    """Write a run's model as another library's directory, with tokenizer.json if the run has one.

    Args:
      average: which average of the parameters, if the run keeps it.

    Raises:
      DataError: the other libraries have no such architecture.
      ConfigError: the run's model has a form that theirs has not.
    """
    trained = restore(where, step)
    spec = trained.experiment.dataset.spec
    fields = trained.experiment.settings.raw["model"]
    variables = jax.device_get(trained.variables.at(average))
    out = interop.save(directory, fields, variables, special=spec.special, **_imported(trained.directory))
    tokenizer = trained.experiment.dataset.tokenizer
    data = getattr(tokenizer, "data", None)
    if isinstance(data, Mapping):
        files.write_json(out / TOKENIZER, dict(data))
    return out
