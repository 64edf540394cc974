"""Create run directories, and read and compare what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax.errors import CheckpointError, ConfigError, DataError, nearest
from genjax.settings import Settings, complete
from genjax.training import checkpoint

CONFIG = "config.json"
FIXED = ("model", "optimizer", "optimizers", "stages", "seed", "data")
"""Sections that a run keeps for life; the others may change when it is resumed."""


def path_of(settings: Settings, directory: str | Path | None = None) -> Path:
    """Return the directory of a run: `directory`, or runs/<name>."""
    return Path(directory) if directory else Path("runs") / settings.name


def create(where: Path) -> None:
    """Create a run directory.

    Raises:
      CheckpointError: it cannot be created or written to.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{where} cannot be created: {error}", "choose another directory") from error
    if not os.access(where, os.W_OK):
        raise CheckpointError(f"{where} cannot be written to", "choose another directory with --dir")


def saved_config(directory: Path) -> dict[str, Any]:
    """Read the config.json of a run directory.

    Raises:
      DataError: it is missing or is not JSON.
    """
    path = directory / CONFIG
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        near = nearest(directory.name, [p.name for p in directory.parent.glob("*")])
        raise DataError(
            f"no run in {directory}{near}", "give a directory that `genjax train` wrote"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", "restore it, or train in a new directory") from error


def check_same_run(where: Path, settings: Settings) -> None:
    """Refuse to resume the run of another config.

    Raises:
      ConfigError: names the first field that differs.
    """
    if not checkpoint.saved_steps(where) or not (where / CONFIG).exists():
        return
    # Complete both: a field that a later version has added is then at its default in both.
    old = json.loads(json.dumps(complete(saved_config(where)).raw))
    new = json.loads(json.dumps(settings.raw))
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
