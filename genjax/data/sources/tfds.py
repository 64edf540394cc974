"""tfds:NAME: any dataset of the TFDS catalogue with images or text, prepared once, then read without TFDS.

The originals come from the network, or from a folder of them (data.originals, GENJAX_ORIGINALS): one
directory a dataset, the files under their registered names, their sums verified. Prepared data lies in
data.cache (GENJAX_DATA, ~/.cache/genjax). Training rows are `train`; evaluation rows are data.eval_split, or
`validation`, or `test`, or else a fixed random data.eval_fraction of `train`. A text's own documents are its
examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.documents import SOURCE
from genjax.data.load import Loaded
from genjax.data.prepare import Request
from genjax.data.rows import Arrays, Rows, Subset
from genjax.data.sources._files import existing
from genjax.data.sources._split import stratified
from genjax.data.sources._text import load as load_text
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "tfds:NAME"
PROGRAM = ("-m", "genjax.data.prepare")
"""What the process that prepares runs; its arguments are the request and the path of the answer."""


def load(config: Config, argument: str) -> Loaded:
    """Images with labels, or windows of text.

    Raises:
      DataError: see genjax.data.prepare; and a cache that cannot be written.
    """
    if not argument:
        raise DataError("tfds: names no dataset", "write tfds:NAME, for example tfds:mnist")
    request = _request(config, argument)
    folder = Path(request.columns)
    if not (folder / "columns.json").exists():
        _once(request)
    about = json.loads((folder / "columns.json").read_text())
    info = f"{about['name']} of the TFDS catalogue, splits {' and '.join(about['splits'].values())}"
    if about["kind"] == "text":
        texts = {p: _examples(folder, p, config.documents) for p in about["splits"]}
        return load_text(config, texts["train"], texts.get("eval"), info)
    return _images(config, folder, about, info)


def _examples(folder: Path, part: str, documents: str | None) -> list[str]:
    """A part's examples, or, where nothing depends on where they end, its whole text as one."""
    raw = (folder / f"{part}.txt").read_bytes()
    if documents != SOURCE:
        return [raw.decode("utf-8")]
    ends = np.load(folder / f"{part}-ends.npy")
    starts = np.r_[0, ends[:-1] + 1]  # a line end stands between two
    return [raw[a:b].decode("utf-8") for a, b in zip(starts, ends, strict=True)]


def cache(config: Config) -> Path:
    """Where prepared data is kept."""
    chosen = config.cache or os.environ.get("GENJAX_DATA") or "~/.cache/genjax"
    return Path(chosen).expanduser()


def _request(config: Config, name: str) -> Request:
    originals = config.originals or os.environ.get("GENJAX_ORIGINALS") or None
    if originals is not None:
        originals = str(existing(originals, "originals").resolve())
    chosen = [name, config.size, config.eval_split, config.feature]
    # What was prepared before examples could be told apart is still good for all else.
    chosen += [SOURCE] if config.documents == SOURCE else []
    choices = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:8]
    key = f"{re.sub('[^A-Za-z0-9_.]+', '-', name)}-{choices}"
    root = cache(config).resolve()
    return Request(
        name=name,
        archive=str(root / "tfds"),
        columns=str(root / "columns" / key),
        originals=originals,
        size=config.size,
        eval_split=config.eval_split,
        feature=config.feature,
    )


def _once(request: Request) -> None:
    """Prepares the columns, one process at a time: a second one waits and finds them done."""
    import filelock

    columns = Path(request.columns)
    try:
        columns.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(columns.with_suffix(".lock")):
            if not (columns / "columns.json").exists():
                run(request)
    except OSError as error:
        raise DataError(
            f"cannot write prepared data to {columns.parent}: {error}", "set GENJAX_DATA or data.cache"
        ) from error


def run(request: Request) -> None:
    """Prepares in a process of its own, whose progress bars are shown on a terminal."""
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        asked = json.dumps(dataclasses.asdict(request))
        done = subprocess.run(
            [sys.executable, *PROGRAM, asked, str(result)],
            stdout=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, **hidden},
        )
        if not result.exists():
            last = (done.stderr or "").strip().splitlines()[-3:]
            raise DataError(
                f"preparing tfds:{request.name} ended with code {done.returncode}: {' / '.join(last)}",
                "is there enough disk and memory? What is prepared so far is kept; try again",
            )
        answer = json.loads(result.read_text())
    if "error" in answer:
        raise DataError(answer["error"], answer["hint"])


def _images(config: Config, folder: Path, about: dict, info: str) -> Loaded:
    rows: dict[str, Rows] = {}
    columns: dict[str, dict[str, np.ndarray]] = {}
    for part in about["splits"]:
        columns[part] = {
            name: np.load(folder / f"{part}-{name}.npy", mmap_mode="r")
            for name in ("image", "label")
            if (folder / f"{part}-{name}.npy").exists()
        }
        rows[part] = Arrays(columns[part])
    content = about["digest"]
    if "eval" not in rows:
        whole, n = rows["train"], len(rows["train"])
        labels = np.asarray(columns["train"].get("label", np.zeros(n, np.int32)))
        train, held = stratified(labels, max(round(n * config.eval_fraction), 1))
        rows = {"train": Subset(whole, train), "eval": Subset(whole, held)}
    elements = {"image": Element(tuple(columns["train"]["image"].shape[1:]), "uint8", 256, "image", "target")}
    if "label" in columns["train"]:
        elements["label"] = Element((), "int32", about["labels"], "label", "condition")
    classes = tuple(about["classes"])
    return Loaded(elements, rows["train"], rows["eval"], content, classes=classes, info=info)
