"""Create run directories, and read and compare what they hold."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import CheckpointError, ConfigError, DataError, nearest
from genjax.settings import Settings, complete, saved, with_paths
from genjax.training import checkpoint, distributed

CONFIG = "config.json"
FIXED = ("model", "optimizer", "optimizers", "stages", "seed", "data")
"""Sections that a run keeps for life; the others may change when it is resumed."""


def path_of(settings: Settings, directory: str | Path | None = None) -> Path:
    """Return the directory of a run: `directory`, or runs/<name>.

    Raises:
      ConfigError: see `check_path`.
    """
    where = Path(directory) if directory else Path("runs") / settings.name
    check_path(where)
    return where


def check_path(where: Path) -> None:
    """Raise ConfigError if a path has bytes that are no Unicode text: Orbax writes no checkpoint there."""
    if any(0xD800 <= ord(c) < 0xE000 for c in str(where.absolute())):
        raise ConfigError(f"the path {str(where)!r} is no Unicode text", "give --dir another directory")


def create(where: Path) -> None:
    """Create a run directory.

    Raises:
      ConfigError: see `check_path`.
      CheckpointError: it cannot be created or written to.
    """
    check_path(where)
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{where} cannot be created: {error}", "choose another directory") from error
    if not os.access(where, os.W_OK):
        raise CheckpointError(f"{where} cannot be written to", "choose another directory with --dir")


@contextlib.contextmanager
def refusing(where: Path) -> Iterator[threading.Event]:
    """Create a run directory. Remove it again if the block fails before it has set the event.

    The folders that were made for it are removed too.

    Raises:
      CheckpointError: it cannot be created or written to.
    """
    missing = [p for p in (where, *where.parents) if not p.exists()] if distributed.is_primary() else []
    begun = threading.Event()
    create(where)
    try:
        yield begun
    except BaseException:
        if missing and not begun.is_set():
            shutil.rmtree(where, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process has written there
                for parent in missing[1:]:
                    parent.rmdir()
        raise


def save_config(directory: Path, raw: Mapping[str, Any]) -> Path:
    """Write config.json. Paths of files in the directory become relative to it, so that it can be moved."""
    return files.write_json(directory / CONFIG, with_paths(raw, lambda path: _inside(directory, path)))


def _inside(directory: Path, path: str) -> str:
    """Return a path relative to the directory if it lies in it, else as it is."""
    relative = os.path.relpath(path, directory)
    return path if relative.startswith(os.pardir) else relative


def saved_config(directory: Path) -> dict[str, Any]:
    """Read the config.json of a run or comparison directory.

    Raises:
      DataError: it is missing, is not JSON, or has no sections.
    """
    path = directory / CONFIG
    try:
        return saved(path)
    except FileNotFoundError:
        near = nearest(directory.name, [p.name for p in directory.parent.glob("*")])
        raise DataError(
            f"no run in {directory}{near}", "give a directory that `genjax train` wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "restore it, or train in a new directory"
        ) from error


def saved_settings(directory: Path) -> Settings:
    """Return the config of a run directory with every section built.

    Raises:
      DataError: config.json is missing or is not JSON.
      ConfigError: it has a value that is not allowed; names the file.
    """
    raw = saved_config(directory)
    try:
        return complete(raw)
    except ConfigError as error:
        raise ConfigError(f"{directory / CONFIG}: {error.message}", error.hint) from error


def check_same_run(where: Path, settings: Settings) -> None:
    """Refuse to resume the run of another config.

    Raises:
      ConfigError: names the first field that differs.
    """
    if not checkpoint.saved_steps(where) or not (where / CONFIG).exists():
        return
    # Complete both: a field that a later version has added is then at its default in both.
    old, new = (
        json.loads(json.dumps(with_paths(raw, os.path.abspath)))
        for raw in (saved_settings(where).raw, settings.raw)
    )
    for key, was, now in differences(old, new):
        if key.split(".")[0] in FIXED:
            raise ConfigError(
                f"{where} holds a run with {key}={was!r}, and this config has {now!r}",
                "give --dir another directory, or resume with the config that the run was started with",
            )


def differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) of each difference between nested plain data."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*new, *(k for k in old if k not in new)]
        return [
            d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))
        ]
    return [] if old == new else [(path, old, new)]
