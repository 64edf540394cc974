"""Find, load, override, check and complete config files.

A config is an ml_collections.ConfigDict of sections (docs/DESIGN.md). `load` reads a file's
get_config(size) and sets overrides; `complete` builds the dataclass of every section. A misspelt key
therefore fails before anything is compiled, and config.json states every default.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from ml_collections import ConfigDict

from genjax import plugins
from genjax.config import Folder, Name, Part, Seed, build, coerce, shown
from genjax.errors import ConfigError, GenjaxError, nearest

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
MODELS = "genjax.models"


def find(name: str) -> Path:
    """Return the config file that `name` means: a path, or a short name such as `digits/gpt` under configs/.

    A path ends with .py, or with .json for the config.json of a run.

    Raises:
      ConfigError: no such file; names the nearest known config.
    """
    candidates = [Path(name), Path.cwd() / "configs" / f"{name}.py", ROOT / "configs" / f"{name}.py"]
    for path in candidates:
        if path.suffix in (".py", ".json") and path.is_file():
            return path
    if Path(name).is_dir():
        raise ConfigError(
            f"{name!r} is a folder, not a config file", f"give a file, such as {name}/config.json"
        )
    known = sorted({str(p.relative_to(ROOT / "configs"))[:-3] for p in (ROOT / "configs").rglob("*.py")})
    raise ConfigError(
        f"no config file {name!r}{nearest(name.removeprefix('configs/').removesuffix('.py'), known)}",
        f"give a path, or one of: {', '.join(known)}",
    )


def exists(name: str) -> bool:
    """Return whether `find` would find a config."""
    try:
        find(name.partition(":")[0])
    except ConfigError:
        return False
    return True


def load(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the config of `name[:size]` with `overrides` (each "model.width=128") set, as nested plain data.

    Raises:
      ConfigError: no such file, a file without get_config, or an override of an unknown section.
    """
    file, _, size = (name, "", "") if Path(name).is_file() else name.partition(":")
    path = find(file)
    raw = _saved(path, size) if path.suffix == ".json" else _returned(path, size)
    for override in overrides:
        set_dotted(raw, override)
    return raw


def _returned(path: Path, size: str) -> dict[str, Any]:
    """Return the plain data of a file's get_config(size)."""
    module = _module(path)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"{path} defines no get_config(size='full')", "return a ConfigDict from it")
    config = _called(path, module, size)
    if (
        size
        and size not in (*SIZES, _default_size(module))
        and _same(config, _unless_refused(path, module, f"no {size}"))
    ):
        raise ConfigError(f"{path} has no size {size!r}", "give full or smoke, or a size that the file knows")
    return config


SIZES = ("full", "smoke")
"""Sizes that every config has. Another one that changes nothing is unknown to the file."""


def _default_size(module: ModuleType) -> Any:
    """Return the size that a file has if none is named."""
    parameters = inspect.signature(module.get_config).parameters.values()
    return next((p.default for p in parameters), None)


def _same(config: dict[str, Any], other: dict[str, Any] | None) -> bool:
    """Return whether two configs differ in what they are called at most."""
    called = ("name", "title")
    kept = [{k: v for k, v in c.items() if k not in called} for c in (config, other or {})]
    return other is not None and kept[0] == kept[1]


def _called(path: Path, module: ModuleType, size: str) -> dict[str, Any]:
    """Return get_config(size) as plain data.

    Raises:
      ConfigError: it raised an error, or returned something else than sections.
    """
    with _blaming(path):
        config = module.get_config(size) if size else module.get_config()
        config = config.to_dict() if isinstance(config, ConfigDict) else config
    if not isinstance(config, Mapping):
        raise ConfigError(f"get_config of {path} returned {shown(config)}", "return a ConfigDict from it")
    return dict(config)


def _unless_refused(path: Path, module: ModuleType, size: str) -> dict[str, Any] | None:
    """Return get_config(size); None if the file refuses the size."""
    try:
        return _called(path, module, size)
    except ConfigError:
        return None


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn every error of a config file into a ConfigError that names its line."""
    try:
        yield
    except GenjaxError:
        raise
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise ConfigError(f"{where}: {error.msg}", "fix the syntax of the file") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).absolute() == path.absolute()]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        said = " ".join(str(error).split())
        raise ConfigError(f"{where}: {type(error).__name__}: {said}", "fix the config file") from error


def _saved(path: Path, size: str) -> dict[str, Any]:
    """Return the config that a run has saved."""
    if size:
        raise ConfigError(f"{path} has no sizes, but {size!r} was asked for", f"give {path} alone")
    try:
        return saved(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "give the config.json of a run") from error


def saved(path: Path) -> dict[str, Any]:
    """Return the content of a run's config.json. Paths of files of the run become absolute.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not JSON, or has no sections.
    """
    try:
        raw = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("it has too many lists or sections in each other") from None
    if not isinstance(raw, dict):
        raise ValueError("it holds no sections")
    folder = path.absolute().parent

    def placed(name: str) -> str:
        own = folder / name
        return str(own) if name and own.exists() else name

    return with_paths(raw, placed)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises ValueError if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {next(k for k in keys if keys.count(k) > 1)!r} twice")
    return found


def with_paths(raw: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a config with another path of the tokenizer's file, the only file that a run may own."""
    section = raw.get("data")
    name = section.get("tokenizer_file") if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping) or not isinstance(name, str):
        return dict(raw)
    return {**raw, "data": {**section, "tokenizer_file": change(name)}}


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_config_{abs(hash(path.resolve()))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _blaming(path):
        spec.loader.exec_module(module)
    return module


def value(text: str) -> Any:
    """Read a command-line value: a Python literal if it is one, else the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def set_dotted(raw: dict[str, Any], override: str) -> None:
    """Set "a.b.c=value" in nested mappings, creating missing sections.

    Raises:
      ConfigError: not of this form, or a part of the key is a value already.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(
            f"override {override!r} is not of the form key=value", "e.g. --config.model.width=128"
        )
    node: dict[str, Any] = raw
    *path, last = key.split(".")
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {key!r}: {part!r} is a value, not a section")
    node[last] = value(text)


def values(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ["a.b=1", ...] as {"a": {"b": 1}}."""
    raw: dict[str, Any] = {}
    for pair in pairs:
        set_dotted(raw, pair)
    return raw


@dataclasses.dataclass(frozen=True)
class Stage:
    """Name an earlier stage: a finished run, or a config that is trained first.

    Attributes:
      run: a run directory.
      config: a config file or short name, with its size. The run that it describes is trained before
        this one, or reused if it is finished already.
      overrides: "section.field=value" over that config.

    Raises:
      ValueError: neither or both of run and config.
    """

    run: Name | None = None
    config: Name | None = None
    overrides: tuple[str, ...] = ()

    def __post_init__(self):
        if (self.run is None) == (self.config is None):
            raise ValueError("a stage needs either `run` (a run directory) or `config` (a config to train)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hold a config with every section built."""

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
    stages: dict[str, Stage]

    @property
    def raw(self) -> dict[str, Any]:
        """Nested plain data with every default filled in: the content of config.json."""
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
            "stages": {name: dataclasses.asdict(stage) for name, stage in self.stages.items()},
        }

    def optimizer_of(self, player: str) -> Any:
        """Return the optimizer config of a player: the shared one with that player's own fields."""
        from genjax.training import optimizers

        own = {**dataclasses.asdict(self.optimizer), **self.optimizers.get(player, {})}
        return build(optimizers.Config, own, f"optimizers.{player}")


def complete(config: Mapping[str, Any]) -> Settings:
    """Build the dataclass of every section.

    Raises:
      ConfigError: an unknown section, model or key, or a value of another type or out of its range.
    """
    from genjax import data, evaluation, training
    from genjax.training import optimizers

    raw = _plain(config)
    if "entries" in raw and "model" not in raw:
        raise ConfigError("this is the config of a comparison, not of a run", "give it to genjax compare")
    for key in raw:
        if key not in SECTIONS:
            raise ConfigError(
                f"unknown config section {key!r}{nearest(key, SECTIONS)}", f"known: {', '.join(SECTIONS)}"
            )
    model = _section(raw, "model")
    name = model.pop("name", None)
    if name is None:
        raise ConfigError("config.model.name is missing", f"name one of {', '.join(models())}")
    name = coerce(Annotated[str, plugins.Entry(MODELS, "model")], name, "model.name")
    module = model_module(name)
    players = _section(raw, "optimizers")
    settings = Settings(
        name=_run_name(raw.get("name"), name),
        seed=0 if raw.get("seed") is None else coerce(Seed, raw["seed"], "seed", 0),
        data=build(data.Config, _section(raw, "data"), "data"),
        model_name=name,
        model=build(module.Config, model, "model"),
        optimizer=build(optimizers.Config, _section(raw, "optimizer"), "optimizer"),
        optimizers={coerce(Folder, p, "optimizers"): _section(players, p, "optimizers.") for p in players},
        train=build(training.Config, _section(raw, "train"), "train"),
        sample=_section(raw, "sample"),
        evaluate=build(evaluation.Config, _section(raw, "evaluate"), "evaluate"),
        stages={coerce(Folder, n, "stages"): _stage(n, s) for n, s in _section(raw, "stages").items()},
    )
    for player in settings.optimizers:
        settings.optimizer_of(player)
    return settings


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config as JSON has it.

    Raises:
      ConfigError: a value that JSON cannot hold; names its key.
    """
    return {str(key): _jsonable(x, str(key)) for key, x in config.items()}


DEPTH = 50
"""Levels of sections and lists in a config. JSON's own functions end with a RecursionError at about 1,000."""


def _jsonable(x: Any, where: str, depth: int = 0) -> Any:
    """Return a value with lists for tuples and texts for the keys of sections."""
    if depth > DEPTH:
        raise ConfigError(f"{where[:60]}...: a value in more than {DEPTH} lists or sections", "use fewer")
    if isinstance(x, Mapping):
        return {str(key): _jsonable(each, f"{where}.{key}", depth + 1) for key, each in x.items()}
    if isinstance(x, (list, tuple)):
        return [_jsonable(each, where, depth + 1) for each in x]
    try:
        return json.loads(json.dumps(x))
    except (TypeError, ValueError):
        raise ConfigError(
            f"{where}: {shown(x)} is a value that JSON cannot hold", "use numbers, text, lists and sections"
        ) from None


def _section(raw: Mapping[str, Any], key: str, path: str = "") -> dict[str, Any]:
    """Return a copy of a section; empty if it is missing or None."""
    section = raw.get(key)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"{path}{key}: expected a section, got {shown(section)}",
            f"set its fields: {path}{key}.FIELD=VALUE",
        )
    return dict(section)


def _run_name(given: Any, model: str) -> str:
    """Return the name of a run, which is also the name of its directory; that of the model if there is none.

    Raises:
      ConfigError: it is no text, or leads out of the folder of the runs.
    """
    if given is None or given == "":
        return model
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise ConfigError(f"name: {shown(given)} is not the name of a run", "give text, such as digits-gpt")
    part = Part()
    for each in str(given).split("/"):
        if fault := part.fault(each):
            raise ConfigError(f"name: {shown(each)} {fault}", f"give {part}; '/' separates folders")
    return str(given)


def _stage(name: str, given: Any) -> Stage:
    """Build a stage; a string is a run directory."""
    if isinstance(given, str):
        return build(Stage, {"run": given}, f"stages.{name}")
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"stages.{name}: expected a run directory or a section, got {shown(given)}",
            f'set stages.{name} to a run directory, or to {{"config": NAME}}',
        )
    return build(Stage, given, f"stages.{name}")


def models() -> list[str]:
    """Return the names of the architectures: the files of genjax/models."""
    return plugins.names(MODELS)


def model_module(name: str) -> ModuleType:
    """Return the module of an architecture: genjax.models.NAME, or a dotted path to a module outside it.

    Raises:
      ConfigError: no such module; names the nearest.
    """
    return plugins.load(MODELS, name, "model", ("Config", "build"))
