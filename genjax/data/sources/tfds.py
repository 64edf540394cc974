"""Load a dataset of the TFDS catalogue with images or text, prepared once, then read without TFDS: tfds:NAME.

The original files are downloaded, or read from a folder (data.originals, GENJAX_ORIGINALS) with one directory
for each dataset, in which the files have their registered names; checksums are verified. Prepared data is
kept in data.cache (GENJAX_DATA, ~/.cache/genjax). Training rows are the split `train`. Evaluation rows are
data.eval_split, or `validation`, or `test`, or else a fixed random data.eval_fraction of `train`. The
documents of a text are its examples.
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
"""Arguments of Python for the preparing process; the request and the path of the answer follow."""


def load(config: Config, argument: str) -> Loaded:
    """Return images with labels, or rows of text.

    Raises:
      DataError: see genjax.data.prepare; or the cache cannot be written.
    """
    if not argument:
        raise DataError("tfds: the name of a dataset is missing", "write tfds:NAME, for example tfds:mnist")
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
    """Return the examples of a part; its whole text as one if their ends have no meaning."""
    raw = (folder / f"{part}.txt").read_bytes()
    if documents != SOURCE:
        return [raw.decode("utf-8")]
    ends = np.load(folder / f"{part}-ends.npy")
    starts = np.r_[0, ends[:-1] + 1]  # a line feed separates two examples
    return [raw[a:b].decode("utf-8") for a, b in zip(starts, ends, strict=True)]


def cache(config: Config) -> Path:
    """Return the folder of prepared data."""
    chosen = config.cache or os.environ.get("GENJAX_DATA") or "~/.cache/genjax"
    return Path(chosen).expanduser()


def _request(config: Config, name: str) -> Request:
    """Return the request for a dataset; its folder of columns depends on all that changes their content."""
    originals = config.originals or os.environ.get("GENJAX_ORIGINALS") or None
    if originals is not None:
        originals = str(existing(originals, "originals").resolve())
    chosen = [name, config.size, config.eval_split, config.feature]
    # Older caches lack the ends of examples: a separate key leaves them valid for everything else.
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
    """Prepare the columns in one process at a time: a second process waits and finds them complete."""
    import filelock

    columns = Path(request.columns)
    try:
        columns.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(columns.with_suffix(".lock")):
            if not (columns / "columns.json").exists():
                run(request)
    except OSError as error:
        raise DataError(
            f"cannot write prepared data to {columns.parent}: {error}",
            "set GENJAX_DATA or data.cache to another folder",
        ) from error


def run(request: Request) -> None:
    """Prepare in a process of its own, whose progress bars are shown on a terminal.

    Raises:
      DataError: the process failed.
    """
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = json.dumps(dataclasses.asdict(request))
        done = subprocess.run(
            [sys.executable, *PROGRAM, arguments, str(result)],
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
                "check disk space and memory, and try again; files that are prepared already are kept",
            )
        answer = json.loads(result.read_text())
    if "error" in answer:
        raise DataError(answer["error"], answer["hint"])


def _images(config: Config, folder: Path, about: dict, info: str) -> Loaded:
    """Return prepared images as rows in mapped memory."""
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
        whole = rows["train"]
        n = len(whole)
        labels = np.asarray(columns["train"].get("label", np.zeros(n, np.int32)))
        train, held = stratified(labels, max(round(n * config.eval_fraction), 1))
        rows = {"train": Subset(whole, train), "eval": Subset(whole, held)}
    elements = {"image": Element(tuple(columns["train"]["image"].shape[1:]), "uint8", 256, "image", "target")}
    if "label" in columns["train"]:
        elements["label"] = Element((), "int32", about["labels"], "label", "condition")
    classes = tuple(about["classes"])
    return Loaded(elements, rows["train"], rows["eval"], content, classes=classes, info=info)
