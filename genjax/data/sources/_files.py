"""Paths and files that a user names: each way of being wrong is one clear error."""

from __future__ import annotations

from pathlib import Path

from genjax.errors import DataError, nearest


def existing(path: str, kind: str) -> Path:
    """The path that `kind:PATH` names, where it is there."""
    if not path:
        raise DataError(f"{kind}: names no path", f"write {kind}:PATH")
    found = Path(path).expanduser()
    if found.exists():
        return found
    parent = found.parent
    while not parent.is_dir():
        parent = parent.parent
    hint = nearest(found.name, (p.name for p in parent.iterdir())) if parent == found.parent else ""
    raise DataError(f"{kind}: there is no {found}{hint}", f"{parent} is the part of the path that exists")


def utf8(file: Path) -> str:
    """The text of a file, with every line end as it stands."""
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} ({error.reason})",
            "convert it, for example with `iconv -f ENCODING -t UTF-8`",
        ) from error
