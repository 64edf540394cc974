"""List the files of a user's folder, through links, in one order on every file system."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

from genjax.errors import DataError


def composed(name: str) -> str:
    """Return a file name in Unicode's form NFC.

    Some systems store "é" as one character (NFC), others as two (NFD): both name the same file or class.
    """
    return unicodedata.normalize("NFC", name)


def below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return all files below a folder whose lower-case suffix is one of `suffixes`, sorted by path.

    Links to files and folders are followed. Hidden files and folders are left out.

    Raises:
      DataError: a folder cannot be read, a link leads nowhere, or a link leads to a folder that contains it.
    """
    found: list[Path] = []
    for name, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(name)
        folders[:] = [f for f in folders if not f.startswith(".")]
        for inner in folders:
            _check_folder(here / inner)
        chosen = [here / f for f in files if not f.startswith(".")]
        for file in chosen:
            _check_link(file, suffixes)
        found += [f for f in chosen if f.suffix.lower() in suffixes]
    return sorted(found, key=lambda f: tuple(map(composed, f.parts)))


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be read: {error.strerror}", "check the permissions of the folder"
    ) from error


def _check_folder(folder: Path) -> None:
    """Raise DataError if a linked folder contains its own link: following it would never end."""
    if folder.is_symlink() and folder.resolve() in {p.resolve() for p in folder.absolute().parents}:
        raise DataError(f"{folder} is a link to a folder that contains it", "remove the link")


def _check_link(file: Path, suffixes: Collection[str]) -> None:
    """Raise DataError if a link that could be a wanted file, or a folder of them, leads nowhere."""
    wanted = file.suffix.lower() in suffixes or not file.suffix
    if wanted and file.is_symlink() and not file.exists():
        raise DataError(
            f"{file} is a link to {os.readlink(file)}, which does not exist",
            "restore what it links to, or remove the link",
        )


def same_file(path: Path) -> Path | None:
    """Return the existing path that equals `path` up to the Unicode form of its names; None without one."""
    if path.exists():
        return path
    parent = same_file(path.parent) if path.parent != path else None
    if parent is None or not parent.is_dir():
        return None
    wanted = composed(path.name)
    return next((p for p in sorted(parent.iterdir()) if composed(p.name) == wanted), None)
