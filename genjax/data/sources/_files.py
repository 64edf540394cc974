"""Find and read files that a user names, with one clear error for each problem."""

from __future__ import annotations

from pathlib import Path

from genjax.data.listing import same_file
from genjax.errors import DataError, nearest


def existing(path: str, kind: str) -> Path:
    """Return the path that `kind:PATH` names.

    Raises:
      DataError: it is empty, or does not exist.
    """
    if not path:
        raise DataError(f"{kind}: a path is missing", f"write {kind}:PATH")
    found = Path(path).expanduser()
    if same := same_file(found):
        return same
    parent = found.parent
    while not parent.is_dir():
        parent = parent.parent
    hint = nearest(found.name, (p.name for p in parent.iterdir())) if parent == found.parent else ""
    raise DataError(
        f"{kind}: no such file or folder: {found}{hint}",
        f"{parent} is the part of the path that exists",
    )


def lines(text: str) -> list[str]:
    """Return the lines of a text without their ends. Only a line feed, or CR and line feed, ends a line."""
    # Not splitlines, which also splits at Unicode's other line separators; a sentence may contain them.
    found = text.split("\n")
    return [line.removesuffix("\r") for line in (found if found[-1] else found[:-1])]


def utf8(file: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark and with its line ends unchanged.

    Raises:
      DataError: the file is not UTF-8; gives the offset of the first wrong byte.
    """
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} ({error.reason})",
            "convert it, for example with `iconv -f ENCODING -t UTF-8`",
        ) from error
