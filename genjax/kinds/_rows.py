"""Show and save whole rows: every element through its kind. Standard library only at import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError
from genjax.kinds._find import shown
from genjax.kinds._interface import Field, Kind, save_arrays
from genjax.spec import Spec


def fields(
    spec: Spec,
    rows: Mapping[str, Any],
    names: Sequence[str],
    tokenizer: Any = None,
    classes: Sequence[str] = (),
) -> list[tuple[Field, Kind]]:
    """Return (field, kind) of those of the named elements that have a kind and a column in `rows`.

    Args:
      rows: {column: array}, all of the same rows.
      names: of elements, e.g. spec.targets.
      tokenizer: of the dataset.
      classes: names of the label's classes.
    """
    return [
        (Field(name, spec[name], rows, tokenizer, tuple(classes), spec.special, label_of(spec, name)), kind)
        for name, kind in shown(spec, names)
        if name in rows
    ]


def label_of(spec: Spec, name: str) -> str | None:
    """Return the class label of an element: the spec's own, or that of the same part of a zip."""
    if spec.label is not None:
        return spec.label
    # Parts of a zip mark their elements by a last letter: the label of image_a is label_a.
    _, mark, letter = name.rpartition("_")
    scalar = [n for n, e in spec.elements.items() if e.shape == () and e.levels]
    own = [n for n in scalar if mark and n.endswith(mark + letter)]
    return own[0] if len(own) == 1 else None


def captions(found: Sequence[tuple[Field, Kind]]) -> list[str] | None:
    """Return a text for each row from all conditions that have one, or None."""
    texts = [text for field, kind in found if (text := kind.captions(field)) is not None]
    return [" · ".join(parts) for parts in zip(*texts, strict=True)] if texts else None


def pictures(found: Sequence[tuple[Field, Kind]]) -> list[tuple[Field, Kind]]:
    """Return those that are shown as pictures beside a target."""
    return [(field, kind) for field, kind in found if kind.PICTURE]


def path_of(path: Path, name: str, alone: bool) -> Path:
    """Return where an element is saved: `path` if it is the only one, else `path` with its name."""
    return path if alone else path.with_name(f"{path.stem}_{name}")


def save_rows(
    spec: Spec,
    rows: Mapping[str, Any],
    path: Path,
    tokenizer: Any = None,
    classes: Sequence[str] = (),
    columns: int = 10,
) -> Path:
    """Write rows where a person can look at or listen to them: every target through its kind.

    Conditions that are pictures are written too. If several elements are written, each file's name ends in
    its element's. Texts of conditions are given to the targets, and kept as a list in `<path>_captions.json`.
    Rows without a target that has a kind become an npz.

    Args:
      spec: of the dataset.
      rows: {column: array}: the targets, and the conditions that they were drawn for.
      path: without its suffix.
      tokenizer, classes: of the dataset.
      columns: of a grid.

    Returns:
      The file of the first target.
    """
    path = Path(path)
    targets = fields(spec, rows, spec.targets, tokenizer, classes)
    given = fields(spec, rows, spec.conditions, tokenizer, classes)
    beside = pictures(given)
    if not targets:
        return save_arrays(path.with_suffix(".npz"), rows)
    texts = captions(given)
    if texts is not None:
        files.write_json(path.with_name(f"{path.stem}_captions.json"), texts)
    alone = len(targets) + len(beside) == 1
    for field, kind in beside:
        kind.save(field, path_of(path, field.name, alone), columns)
    written = [kind.save(f, path_of(path, f.name, alone), columns, texts) for f, kind in targets]
    return written[0]


def save_each(spec: Spec, rows: Mapping[str, Any], folder: Path, names: Sequence[str]) -> list[Path]:
    """Write each row's targets to files of their own, `folder`/NAME; with several targets `NAME_target`.

    Raises:
      ConfigError: a target's kind has no such form.
    """
    targets = fields(spec, rows, spec.targets)
    written = []
    for field, kind in targets:
        own = names if len(targets) == 1 else [f"{name}_{field.name}" for name in names]
        found = kind.save_each(field, folder, own)
        if found is None:
            raise ConfigError(f"{field.name} is not written to files of its own", "give --out as a file")
        written += found
    if not written:
        raise ConfigError("the rows have no target that is written to files", "give --out as a file")
    return written


def image_files(path: Path, option: str) -> list[Path]:
    """Return the file itself, or the image files below a folder in order of name.

    Raises:
      DataError: there is none; the message names the option.
    """
    from genjax.kinds import _files

    return _files.find(path, option)
