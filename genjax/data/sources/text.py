"""text:PATH: any UTF-8 file, or a folder of .txt files read in the order of their names.

The last part of the characters (data.eval_fraction) is held out. Its own documents are the files.
"""

from __future__ import annotations

from pathlib import Path

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources._files import existing, utf8
from genjax.data.sources._text import load as load_text
from genjax.errors import DataError

USAGE = "text:PATH"


def load(config: Config, argument: str) -> Loaded:
    """Windows of text.

    Raises:
      DataError: no such path, no .txt in the folder, not UTF-8 (with the byte's offset), too short.
    """
    path = existing(argument, "text")
    files = [path] if path.is_file() else _files(path)
    texts = [utf8(file) for file in files]
    size, plural = sum(map(len, texts)) + len(texts) - 1, "s" if len(files) > 1 else ""
    info = f"{size:,} characters of {len(files)} file{plural} in {path}"
    return load_text(config, texts, info=info)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.txt"))
    if not files:
        raise DataError(f"no .txt file in {folder}", "name a folder of .txt files, or one file of text")
    return files
