"""Config files: found, loaded, overridden, checked and completed. One place for the command line's dots.

A config is an ml_collections.ConfigDict of sections (docs/DESIGN.md). `load` reads a file's
get_config(size) and sets overrides; `complete` builds every section's dataclass, so that what a run
keeps in config.json is whole, and a misspelt key fails before anything is compiled.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from genjax.config import build
from genjax.errors import ConfigError, nearest

SECTIONS = (
    "name",
    "seed",
    "data",
    "model",
    "optimizer",
    "optimizers",
    "train",
    "sample",
    "evaluate",
    "stages",
)
ROOT = Path(__file__).resolve().parent.parent
"""The checkout, whose configs/ short names refer to."""


def find(name: str) -> Path:
    """The config file that `name` means: a path, or a short name such as `digits/gpt` under configs/.

    Raises:
      ConfigError: names the file and the nearest known config.
    """
    candidates = [Path(name), Path.cwd() / "configs" / f"{name}.py", ROOT / "configs" / f"{name}.py"]
    for path in candidates:
        if path.suffix == ".py" and path.is_file():
            return path
    known = sorted({str(p.relative_to(ROOT / "configs"))[:-3] for p in (ROOT / "configs").rglob("*.py")})
    raise ConfigError(
        f"no config file {name!r}{nearest(name.removeprefix('configs/').removesuffix('.py'), known)}",
        f"give a path, or one of: {', '.join(known)}",
    )


def load(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config of `name[:size]` with `overrides` (each "model.width=128") set, as plain nested data.

    Raises:
      ConfigError: no such file, a file without get_config, an override of an unknown section.
    """
    file, _, size = name.partition(":")
    path = find(file)
    module = _module(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} defines no get_config(size='full')", "return a ConfigDict from it")
    config = module.get_config(size) if size else module.get_config()
    raw = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    for override in overrides:
        set_dotted(raw, override)
    return raw


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_config_{abs(hash(path.resolve()))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}", "fix the syntax of the file") from error
    return module


def value(text: str) -> Any:
    """A command-line value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def set_dotted(raw: dict[str, Any], override: str) -> None:
    """Sets "a.b.c=value" in nested mappings, making sections where there are none."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"override {override!r} is not of the form key=value", "e.g. --config.model.width=128"
        )
    node, *_ = [raw]
    *path, last = key.split(".")
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {key!r}: {part!r} is a value, not a section")
    node[last] = value(text)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config with every section built: what a run needs, and `raw`, all of it as plain data."""

    name: str
    seed: int
    data: Any
    model_name: str
    model: Any
    optimizer: Any
    optimizers: dict[str, dict[str, Any]]
    train: Any
    sample: dict[str, Any]
    evaluate: Any
    stages: dict[str, str]

    @property
    def raw(self) -> dict[str, Any]:
        """Plain nested data with every default filled in; what config.json holds."""
        return {
            "name": self.name,
            "seed": self.seed,
            "data": dataclasses.asdict(self.data),
            "model": {"name": self.model_name, **dataclasses.asdict(self.model)},
            "optimizer": dataclasses.asdict(self.optimizer),
            "optimizers": self.optimizers,
            "train": dataclasses.asdict(self.train),
            "sample": self.sample,
            "evaluate": dataclasses.asdict(self.evaluate),
            "stages": self.stages,
        }

    def optimizer_of(self, player: str) -> Any:
        """The optimizer config of a player: the shared one with that player's own fields."""
        from genjax.training import optimizers

        own = {**dataclasses.asdict(self.optimizer), **self.optimizers.get(player, {})}
        return build(optimizers.Config, own, f"optimizers.{player}")


def complete(config: Mapping[str, Any]) -> Settings:
    """Every section as its dataclass.

    Raises:
      ConfigError: an unknown section, model or key, or a value of another type.
    """
    from genjax import data, evaluation, training
    from genjax.training import optimizers

    raw = json.loads(json.dumps(config))
    for key in raw:
        if key not in SECTIONS:
            raise ConfigError(f"unknown config section {key!r}{nearest(key, SECTIONS)}", f"known: {SECTIONS}")
    model = dict(raw.get("model") or {})
    name = model.pop("name", None)
    if not name:
        raise ConfigError("config.model.name is missing", f"name one of {', '.join(models())}")
    module = model_module(name)
    return Settings(
        name=str(raw.get("name") or name),
        seed=int(raw.get("seed") or 0),
        data=build(data.Config, raw.get("data") or {}, "data"),
        model_name=name,
        model=build(module.Config, model, "model"),
        optimizer=build(optimizers.Config, raw.get("optimizer") or {}, "optimizer"),
        optimizers=dict(raw.get("optimizers") or {}),
        train=build(training.Config, raw.get("train") or {}, "train"),
        sample=dict(raw.get("sample") or {}),
        evaluate=build(evaluation.Config, raw.get("evaluate") or {}, "evaluate"),
        stages=dict(raw.get("stages") or {}),
    )


def models() -> list[str]:
    """The names of the architectures: the files of genjax/models."""
    return sorted(p.stem for p in (Path(__file__).parent / "models").glob("*.py") if p.stem != "__init__")


def model_module(name: str) -> ModuleType:
    """The module of an architecture: genjax.models.NAME, or a dotted path to a user's own file.

    Raises:
      ConfigError: there is none; names the nearest.
    """
    try:
        return importlib.import_module(name if "." in name else f"genjax.models.{name}")
    except ModuleNotFoundError as error:
        if error.name and not name.endswith(error.name.rpartition(".")[2]):
            raise
        raise ConfigError(
            f"no model {name!r}{nearest(name, models())}",
            f"one of {', '.join(models())}, or the dotted path of a module with Config and build",
        ) from error
