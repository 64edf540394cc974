"""Read the captions of a folder of images: metadata.jsonl, one {"file_name": ..., "text": ...} per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.listing import composed
from genjax.data.sources._files import lines, utf8
from genjax.data.sources._text import fit
from genjax.data.tokenizers import Tokenizer
from genjax.errors import DataError

NAME = "metadata.jsonl"


def columns(
    config: Config,
    parts: dict[str, Path],
    files: dict[str, list[Path]],
    out: dict[str, dict[str, np.ndarray]],
) -> Tokenizer | None:
    """Add `caption` (N, length) and `caption_mask` (N, length) to the columns of each part.

    Captions are cut after config.length tokens.

    Args:
      parts: the folder of each part.
      files: the images of each part, in the order of its rows.
      out: the columns of each part, which are extended.

    Returns:
      the tokenizer; None if no part has captions.

    Raises:
      DataError: captions that do not match the images.
    """
    with_captions = [part for part, folder in parts.items() if (folder / NAME).exists()]
    if not with_captions:
        return None
    texts = {part: _texts(parts[part], files[part]) for part in parts}
    # One line for each caption, so that no word spans two of them. `chars` would learn the line end.
    joint = "" if config.tokenizer == "chars" else "\n"
    tokenizer = fit(config, *(joint.join(texts.get(part, ())) for part in ("train", "eval")))
    for part, captions in texts.items():
        tokens, mask = tokens_of(tokenizer, captions, config.length)
        out[part] |= {"caption": tokens, "caption_mask": mask}
    return tokenizer


def tokens_of(tokenizer: Tokenizer, captions: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return captions as tokens (N, length), cut after `length` of them, and their mask (N, length)."""
    tokens = np.full((len(captions), length), tokenizer.special.get("pad", 0), np.int32)
    mask = np.zeros((len(captions), length), np.float32)
    for row, text in enumerate(captions):
        ids = tokenizer.encode(text)[:length]
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return tokens, mask


def _texts(folder: Path, files: list[Path]) -> list[str]:
    """Return the caption of each file."""
    path = folder / NAME
    if not path.exists():
        raise DataError(
            f"{path} is missing, but the other part has captions", "give captions for both parts or for none"
        )
    captions: dict[Path, str] = {}
    known = {_key(f): f for f in files}
    for number, line in enumerate(lines(utf8(path)), 1):
        if not line.strip():
            continue
        name, text = _line(line, f"{path}:{number}")
        file = known.get(_key(folder / name))
        if file is None:
            raise DataError(
                f"{path}:{number} names {name!r}, but there is no image {folder / name}",
                "correct the file name",
            )
        if file in captions:
            raise DataError(f"{path}:{number} gives {name!r} a second caption", "give one caption per image")
        captions[file] = text
    bare = next((f for f in files if f not in captions), None)
    if bare:
        raise DataError(f"{bare} has no caption in {path}", "add a line for every image")
    return [captions[f] for f in files]


def _key(file: Path) -> str:
    """Return a path in one Unicode form, in which the names of a text and of a file system are compared."""
    return composed(str(file))


def _line(line: str, where: str) -> tuple[str, str]:
    """Return (file name, caption) of a line."""
    form = 'each line must be {"file_name": "picture.png", "text": "what it shows"}'
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error.msg} at column {error.colno}", form) from error
    if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("file_name", "text")):
        raise DataError(f"{where} lacks file_name or text", form)
    return entry["file_name"], entry["text"]
