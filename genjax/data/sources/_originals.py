"""Find the raw files of datasets that TFDS does not have, in the folder of originals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from genjax.data.config import Config
from genjax.data.sources._files import existing
from genjax.errors import DataError


def files(config: Config, folder: str, names: Sequence[str]) -> list[Path]:
    """Return the paths of the named files in a dataset's folder of originals.

    Raises:
      DataError: no folder of originals is set, or it lacks some of the files; names all of these.
    """
    root = config.originals or os.environ.get("GENJAX_ORIGINALS")
    if not root:
        raise DataError(
            f"{config.name!r} is read from original files, and their folder is not set",
            f"put {', '.join(names)} in a folder ORIGINALS/{folder} and set GENJAX_ORIGINALS or "
            "data.originals to ORIGINALS",
        )
    where = existing(root, "originals") / folder
    lost = [name for name in names if not (where / name).is_file()]
    if lost:
        raise DataError(
            f"{config.name!r} lacks originals in {where}: {', '.join(lost)}", "copy them into that folder"
        )
    return [where / name for name in names]


def choose(config: Config, splits: dict[str, str]) -> str:
    """Return the value of the split that data.eval_split names; the first one if it is None.

    Args:
      splits: {name: value}.

    Raises:
      DataError: there is no such split.
    """
    if config.eval_split is None:
        return next(iter(splits.values()))
    if config.eval_split not in splits:
        raise DataError(
            f"{config.name!r} has no split {config.eval_split!r}",
            f"use one of {', '.join(splits)}",
        )
    return splits[config.eval_split]
