"""Define a dataset: two splits of rows, their spec, and a fingerprint of the content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files
from genjax.data.config import Config, Order
from genjax.data.rows import Columns, Rows
from genjax.data.stream import Stream
from genjax.data.tokenizers import Tokenizer
from genjax.spec import Spec, to_json

RECORD = "dataset.json"
"""The file of a run directory that describes its data."""


class Split:
    """Hold the rows of one part of a dataset (training or evaluation)."""

    def __init__(self, name: str, source: Rows):
        self.name = name
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def distinct(self) -> int:
        """Return how many of the first rows do not repeat an element of another row."""
        return self.source.distinct

    def rows(self, indices: np.ndarray | Iterable[int]) -> Columns:
        """Return the rows at `indices` (B integers in [0, len)): {element: (B, ...) array}, without mask.

        Raises:
          IndexError: an index outside of the split.
        """
        indices = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"rows {indices.min()}..{indices.max()} of {len(self)} in {self.name!r}")
        return self.source(indices)

    def stream(
        self,
        order: Order = "shuffled",
        batch: int = 128,
        seed: int = 0,
        start: int = 0,
        process: tuple[int, int] = (0, 1),
        skip: Collection[int] = (),
    ) -> Stream:
        """Return the batches of the split in one order: see genjax.data.Stream.

        Args:
          order: shuffled, lanes or once.
          batch: rows of the global batch.
          seed: of the order.
          start: the batch at which iteration begins (the step of a resumed run).
          process: (index, count): this process reads its slice of each batch. The slices concatenated in
            process order are the batch that a single process would read.
          skip: numbers of batches to leave out, as if they did not exist (after a rollback).
        """
        return Stream(self.source, order, batch, seed, start, process, skip)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Hold a dataset in the form that models, training and evaluation use.

    Attributes:
      name: as in the config.
      spec: the elements of a row.
      train, eval: the splits.
      fingerprint: sha256 (hex) over the spec, the sizes and the content of both splits: equal exactly
        if the data is equal, on every machine.
      tokenizer: of text; else None.
      classes: names of the labels, if they are known.
      info: the origin of the data, in words.
      config: the section of the config that it was loaded from.
      recorded: the digest that a run has recorded; None to compute it.
    """

    name: str
    spec: Spec
    train: Split
    eval: Split
    fingerprint: str
    tokenizer: Tokenizer | None = None
    classes: tuple[str, ...] = ()
    info: str = ""
    config: Config = dataclasses.field(default_factory=Config)
    recorded: str | None = None

    @property
    def digest(self) -> str:
        """The sha256 (hex) of what a run depends on: the content, the tokenizer and the names of classes."""
        return self.recorded or summary(self.description())

    def description(self) -> dict[str, Any]:
        """Return the description that a run directory stores (dataset.json), as plain data."""
        found = {
            "name": self.name,
            "spec": to_json(self.spec),
            "rows": {"train": len(self.train), "eval": len(self.eval)},
            "fingerprint": self.fingerprint,
            "tokenizer": self.tokenizer.to_json() if self.tokenizer else None,
            "classes": list(self.classes),
            "info": self.info,
        }
        return {**found, "checksum": checksum(found)}

    def save(self, directory: str | os.PathLike) -> Path:
        """Write `directory`/dataset.json atomically and return its path."""
        return files.write_json(Path(directory) / RECORD, self.description())


def summary(description: dict[str, Any]) -> str:
    """Return `Dataset.digest` of a description."""
    return plain_digest([description["fingerprint"], description["tokenizer"], description["classes"]])


def checksum(description: dict[str, Any]) -> str:
    """Return the sha256 (hex) over all fields of a description but the checksum itself."""
    return plain_digest({key: value for key, value in description.items() if key != "checksum"})


def plain_digest(plain: Any) -> str:
    """Return the sha256 (hex) of plain data."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def digest(*arrays: np.ndarray) -> str:
    """Return the sha256 (hex) of arrays: their shapes, dtypes and little-endian values."""
    h = hashlib.sha256()
    for x in arrays:
        x = np.ascontiguousarray(x)
        if x.dtype.byteorder == ">" or (x.dtype.byteorder == "=" and np.little_endian is False):
            x = x.astype(x.dtype.newbyteorder("<"))
        h.update(f"{x.dtype.str}{x.shape}".encode())
        h.update(x.reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def fingerprint(spec: Spec, sizes: tuple[int, int], content: str) -> str:
    """Return the sha256 (hex) over the form, the split sizes and a digest of the content.

    Kinds and roles are left out, since they describe how values are used and not the values.
    """
    elements = {
        k: {"shape": list(e.shape), "dtype": e.dtype, "levels": e.levels} for k, e in spec.elements.items()
    }
    special = {"special": dict(spec.special)} if spec.special else {}
    described = {"elements": elements, "rows": spec.rows, **special}
    form = json.dumps([described, list(sizes), content], sort_keys=True)
    return hashlib.sha256(form.encode()).hexdigest()
