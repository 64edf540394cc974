"""Write files atomically: a reader sees the old file or the new one, never a part. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` and rename it to `path` if the block succeeds.

    The folder is created if it is missing. The temporary file keeps the suffix of `path`, since libraries
    choose a file format by it, and gets the permissions that a new file would have.

    Raises:
      OSError: the folder cannot be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp creates files that only the owner can read, which would hide results from colleagues.
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path` and rename it to `path` if the block succeeds.

    Raises:
      OSError: the parent folder cannot be written to, or `path` is a folder with content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        # mkdtemp creates folders that only the owner can read, which would hide a shared cache.
        partial.chmod(0o777 & ~umask)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text atomically and flush it to disk; return the path.

    A lone surrogate, which stands for a byte of a file name that is not UTF-8, is written as its escape in
    JSON.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write `value` as indented JSON atomically; return the path."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
