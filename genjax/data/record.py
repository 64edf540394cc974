"""Read the record of its data that a run has kept (dataset.json); rows are loaded when they are first read.

The record holds all that a run learned from its data beside the weights: the form of a row, the tokenizer,
the names of classes, and a fingerprint of the content. Samples are drawn from it alone. Rows are loaded with
the run's own tokenizer, and refused if they are not those that the run was trained on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

from genjax.data import tokenizers
from genjax.data.config import Config
from genjax.data.dataset import RECORD, Dataset, Split, checksum, plain_digest, summary
from genjax.data.rows import Rows
from genjax.errors import ConfigError, DataError
from genjax.spec import from_json

DAMAGED = (
    "restore it from a backup; or remove it, and run `genjax train` with the config.json of the run, which "
    "writes it again if the data is unchanged"
)
RESTORE = "restore the data as it was; to draw samples, `genjax sample` needs none of it"


class Deferred(Split):
    """Hold a part of a dataset whose rows are loaded when they are first read."""

    def __init__(self, name: str, count: int, load: Callable[[], Split]):
        self.name = name
        self._count = count
        self._load = load

    @functools.cached_property
    def source(self) -> Rows:
        """The rows. Raises DataError if the data is missing or has changed."""
        return self._load().source

    def __len__(self) -> int:
        return self._count


def exists(directory: str | os.PathLike[str]) -> bool:
    """Return whether a run directory has a record of its data."""
    return (Path(directory) / RECORD).exists()


def read(directory: str | os.PathLike[str], config: Config, load: Callable[[Config], Dataset]) -> Dataset:
    """Return the dataset of a run from its record. Rows are loaded when they are first read.

    Args:
      directory: of the run.
      config: the data section of its config.
      load: returns the dataset of a config, as it is now.

    Raises:
      DataError: dataset.json is missing, damaged, or of another form.
    """
    path = Path(directory) / RECORD
    run = str(directory)
    found = _parse(path, _text(path))

    @functools.cache
    def live() -> Dataset:
        try:
            now = load(_own(config, path, found))
        except DataError as error:
            raise DataError(
                f"the data that {run} was trained on is missing or has changed: {error.message}", RESTORE
            ) from error
        return _same(run, found, now)

    return dataclasses.replace(
        found,
        config=config,
        train=Deferred("train", len(found.train), lambda: live().train),
        eval=Deferred("eval", len(found.eval), lambda: live().eval),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} is missing: it describes the data of the run", DAMAGED) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", DAMAGED) from error


def _parse(path: Path, text: str) -> Dataset:
    """Return the dataset that `Dataset.description` described, with as many rows and none of them.

    Raises:
      DataError: it is not such a description, or not as it was written.
    """
    try:
        data = json.loads(text)
        kept = data["tokenizer"]
        found = Dataset(
            name=str(data["name"]),
            spec=from_json(data["spec"]),
            train=Deferred("train", int(data["rows"]["train"]), _nothing),
            eval=Deferred("eval", int(data["rows"]["eval"]), _nothing),
            fingerprint=str(data["fingerprint"]),
            tokenizer=None if kept is None else tokenizers.from_json(kept),
            classes=tuple(map(str, data["classes"])),
            info=str(data["info"]),
            recorded=summary(data),
        )
    except ConfigError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error
    except Exception as error:  # a tokenizer may raise anything for data that is not its own
        raise DataError(f"{path} does not describe data: {_cause(error)}", DAMAGED) from error
    if "checksum" in data and data["checksum"] != checksum(data):
        raise DataError(f"{path} is not as it was written: its checksum differs", DAMAGED)
    return found


def _cause(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _nothing() -> Split:
    raise RuntimeError("a record by itself has no rows")


def _own(config: Config, path: Path, found: Dataset) -> Config:
    """Return the config that loads the data with the tokenizer of the run."""
    if found.tokenizer is None:
        return config
    return dataclasses.replace(config, tokenizer="run", tokenizer_file=str(path))


def _same(run: str, recorded: Dataset, live: Dataset) -> Dataset:
    """Return the data as it is now, if it is that of the record.

    Raises:
      DataError: it has changed.
    """
    parts = {
        "fingerprint": (recorded.fingerprint, live.fingerprint),
        "tokenizer": tuple(plain_digest(d.tokenizer and d.tokenizer.to_json()) for d in (recorded, live)),
        "names of classes": (plain_digest(recorded.classes), plain_digest(live.classes)),
    }
    for what, (then, now) in parts.items():
        if then != now:
            raise DataError(
                f"{recorded.name} is not the data that {run} was trained on: "
                f"its {what} was {then[:12]} and is {now[:12]}",
                RESTORE,
            )
    return live
