"""Load text from a UTF-8 file, or from a folder of .txt files in order of their names: text:PATH.

Links are followed, and hidden files are left out.

The last characters are held out (data.eval_fraction). The documents of the source are the files.
"""

from __future__ import annotations

from pathlib import Path

from genjax.data.config import Config
from genjax.data.listing import below
from genjax.data.load import Loaded
from genjax.data.sources._files import existing, utf8
from genjax.data.sources._text import load as load_text
from genjax.errors import DataError

USAGE = "text:PATH"


def load(config: Config, argument: str) -> Loaded:
    """Return rows of text: see genjax.data.sources._text.load.

    Raises:
      DataError: no such path, no .txt file in the folder, a file that is not UTF-8, or too little text.
    """
    path = existing(argument, "text")
    files = [path] if path.is_file() else _files(path)
    texts = [utf8(file) for file in files]
    size = sum(map(len, texts)) + len(texts) - 1
    plural = "s" if len(files) > 1 else ""
    info = f"{size:,} characters of {len(files)} file{plural} in {path}"
    return load_text(config, texts, info=info)


def _files(folder: Path) -> list[Path]:
    files = below(folder, (".txt",))
    if not files:
        raise DataError(f"no .txt file in {folder}", "name a folder of .txt files, or one text file")
    return files
