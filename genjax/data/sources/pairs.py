"""Load text-to-text pairs (translations, summaries, questions and answers) from the user's files.

    pairs:corpus.tsv                  one pair per line: source, a tab, target
    pairs:corpus.jsonl                one pair per line: {"source": ..., "target": ...}
    pairs:DIR/train.en,DIR/train.de   two files: line i of one belongs to line i of the other
    pairs:DIR                         DIR/train.tsv, DIR/train.jsonl, or the two files DIR/train.* (by name)

All files may be compressed (.gz). If the names of the training files contain `train`, the evaluation files
are those with `validation`, `valid`, `val`, `dev` or `test` in its place, or with the word in
data.eval_split, which may also name the files in the same form. Otherwise a fixed random fraction
of the pairs (data.eval_fraction) is held out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from genjax.data.config import Config
from genjax.data.load import Loaded
from genjax.data.sources import _pairs
from genjax.data.sources._files import existing
from genjax.data.sources._pairs import Texts
from genjax.data.sources._split import stratified
from genjax.errors import DataError

USAGE = "pairs:PATH"
WORDS = ("validation", "valid", "val", "dev", "test")


def load(config: Config, argument: str) -> Loaded:
    """Return pairs: see genjax.data.sources._pairs.load for their rows.

    Raises:
      DataError: no such file, sides with different numbers of lines, or a line that is not a pair.
    """
    files = _files(argument)
    train = read(files)
    held = _held(config, files)
    info = f"pairs of {' and '.join(map(str, files))}"
    if held is not None:
        return _pairs.load(
            config, train, read(held), f"{info}, evaluated with {' and '.join(map(str, held))}"
        )
    if (n := len(train.source)) < 2:
        raise DataError(f"{files[0]} has {n} pairs", "give at least two: one is held out to evaluate with")
    count = int(np.clip(round(n * config.eval_fraction), 1, n - 1))
    chosen = stratified(np.zeros(n, np.int32), count)
    parts = [Texts(*([side[int(i)] for i in at] for side in (train.source, train.target))) for at in chosen]
    return _pairs.load(config, parts[0], parts[1], info)


def _files(argument: str) -> list[Path]:
    """Return the one file of pairs, or the two parallel files, that the argument names."""
    paths = [existing(part, "pairs") for part in (argument.split(",") if argument else [""])]
    if len(paths) == 1 and paths[0].is_dir():
        paths = _of_folder(paths[0])
    if len(paths) > 2:
        raise DataError(
            f"pairs: {len(paths)} files are named", "name one file of pairs, or two parallel files"
        )
    if len(paths) == 1 and _kind(paths[0]) not in (".tsv", ".jsonl"):
        raise DataError(
            f"pairs: {paths[0]} is neither .tsv nor .jsonl",
            "add the file of the other side after a comma, or give the file the suffix of its format",
        )
    return paths


def _of_folder(folder: Path) -> list[Path]:
    """Return the training files of a folder."""
    found = sorted(f for f in folder.iterdir() if f.name.startswith("train.") and f.is_file())
    whole = [f for f in found if _kind(f) in (".tsv", ".jsonl")]
    if len(whole) == 1:
        return whole
    if len(found) != 2:
        names = ", ".join(f.name for f in found) or "none"
        raise DataError(
            f"pairs: {folder} has neither one train.tsv or train.jsonl nor two files train.*; it has {names}",
            "name them: pairs:SOURCE,TARGET",
        )
    return found


def _held(config: Config, files: list[Path]) -> list[Path] | None:
    """Return the evaluation files; None if pairs of the training files must be held out."""
    wanted = config.eval_split
    if wanted is not None and ("/" in wanted or "." in wanted):
        return _files(wanted)
    for word in (wanted,) if wanted else WORDS:
        others = [f.with_name(f.name.replace("train", word, 1)) for f in files]
        if all(o != f and o.exists() for o, f in zip(others, files, strict=True)):
            return others
    if wanted is None:
        return None
    raise DataError(
        f"pairs: there is no {wanted!r} beside {' and '.join(map(str, files))}",
        "set data.eval_split to the word that replaces 'train' in the file names, or to the files themselves",
    )


def _kind(path: Path) -> str:
    """Return the suffix of a file, without .gz."""
    return Path(path.name.removesuffix(".gz")).suffix


def read(files: list[Path]) -> Texts:
    """Return the pairs of one file of pairs, or of two parallel files."""
    if len(files) == 2:
        return _pairs.parallel(*files)
    path = files[0]
    split = _tab if _kind(path) == ".tsv" else _object
    pairs = [split(line, f"{path}:{n}") for n, line in enumerate(_pairs.lines(path), 1) if line.strip()]
    return Texts([s for s, _ in pairs], [t for _, t in pairs])


def _tab(line: str, where: str) -> tuple[str, str]:
    """Return the pair in a line of a .tsv file."""
    parts = line.split("\t")
    if len(parts) != 2:
        raise DataError(
            f"{where} has {len(parts) - 1} tabs instead of one", "each line must be: source, tab, target"
        )
    return parts[0], parts[1]


def _object(line: str, where: str) -> tuple[str, str]:
    """Return the pair in a line of a .jsonl file."""
    form = 'each line must be {"source": "...", "target": "..."}'
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error.msg} at column {error.colno}", form) from error
    if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("source", "target")):
        raise DataError(f"{where} lacks source or target", form)
    return entry["source"], entry["target"]
