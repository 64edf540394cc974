"""Dataset: two splits of rows, the form they have, and the name of exactly this content."""

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


class Split:
    """The rows of one part of a dataset (training or evaluation)."""

    def __init__(self, name: str, source: Rows):
        self.name, self.source = name, source

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: np.ndarray | Iterable[int]) -> Columns:
        """The rows at `indices` (B integers in [0, len)): {element: array, B-first}, without mask."""
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
        """The split's batches in this order: see genjax.data.Stream.

        Args:
          order: shuffled, lanes or once.
          batch: rows of the global batch.
          seed: of the order.
          start: the batch at which iterating begins (a resumed run's step).
          process: (index, count): this host gets its slice of each batch; concatenated in the order of
            the hosts they are the batch that a single host would get.
          skip: numbers of batches that are left out, as though they had never been (a rollback).
        """
        return Stream(self.source, order, batch, seed, start, process, skip)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Data as models, training and evaluation see it.

    Attributes:
      name: as in the config.
      spec: what a row holds.
      train, eval: the splits.
      fingerprint: sha256 (hex) over the spec, the sizes and the content of both splits: equal exactly
        where the data is, on every machine.
      tokenizer: of text; else None.
      classes: names of the labels, where they are known.
      info: where the data comes from, for people.
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

    def description(self) -> dict[str, Any]:
        """Plain data: what a run directory keeps of its dataset (dataset.json)."""
        return {
            "name": self.name,
            "spec": to_json(self.spec),
            "rows": {"train": len(self.train), "eval": len(self.eval)},
            "fingerprint": self.fingerprint,
            "tokenizer": self.tokenizer.to_json() if self.tokenizer else None,
            "classes": list(self.classes),
            "info": self.info,
        }

    def save(self, directory: str | os.PathLike) -> Path:
        """Write `directory`/dataset.json atomically and return its path."""
        return files.write_json(Path(directory) / "dataset.json", self.description())


def digest(*arrays: np.ndarray) -> str:
    """sha256 (hex) of arrays: shapes, types and little-endian values."""
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

    Kinds and roles are left out: they say how values are used, not which they are.
    """
    elements = {
        k: {"shape": list(e.shape), "dtype": e.dtype, "levels": e.levels} for k, e in spec.elements.items()
    }
    special = {"special": dict(spec.special)} if spec.special else {}
    described = {"elements": elements, "rows": spec.rows, **special}
    form = json.dumps([described, list(sizes), content], sort_keys=True)
    return hashlib.sha256(form.encode()).hexdigest()
