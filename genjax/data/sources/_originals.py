"""Datasets that TFDS does not know, from the folder of originals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from genjax.data.config import Config
from genjax.data.sources._files import existing
from genjax.errors import DataError


def files(config: Config, folder: str, names: Sequence[str]) -> list[Path]:
    """These files of a dataset's folder among the originals.

    Raises:
      DataError: there is no folder of originals, or it lacks some of them: names them all.
    """
    root = config.originals or os.environ.get("GENJAX_ORIGINALS")
    if not root:
        raise DataError(
            f"{config.name!r} is read from originals, and no folder of them is named",
            f"put {', '.join(names)} in a folder ORIGINALS/{folder} and set GENJAX_ORIGINALS or "
            "data.originals to ORIGINALS",
        )
    where = existing(root, "originals") / folder
    lost = [name for name in names if not (where / name).is_file()]
    if lost:
        raise DataError(f"{config.name!r} lacks originals in {where}: {', '.join(lost)}", "put them there")
    return [where / name for name in names]


def choose(config: Config, splits: dict[str, str]) -> str:
    """What data.eval_split stands for among {its names: value}; the first where it is None.

    Raises:
      DataError: there is no such split.
    """
    if config.eval_split is None:
        return next(iter(splits.values()))
    if config.eval_split not in splits:
        raise DataError(
            f"{config.name!r} has no split {config.eval_split!r}",
            f"its evaluation splits: {', '.join(splits)}",
        )
    return splits[config.eval_split]
