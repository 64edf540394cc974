"""Show, save, score and parse data by its kind. One file per kind; NumPy and Pillow only, never jax.

`Element.kind` names a file of this package, or a dotted module outside it. Such a module is the only place
that knows how values of its kind look; `Kind` lists what it defines. Names that a kind does not need may be
left out: `of` fills in the defaults. Importing this package imports the standard library only.
"""

from __future__ import annotations

from genjax.kinds._find import PACKAGE, main_target, names, of, shown
from genjax.kinds._interface import Field, Kind, Unit, save_arrays
from genjax.kinds._rows import (
    captions,
    fields,
    image_files,
    label_of,
    path_of,
    pictures,
    save_each,
    save_rows,
)

__all__ = [
    "PACKAGE",
    "Field",
    "Kind",
    "Unit",
    "captions",
    "fields",
    "image_files",
    "label_of",
    "main_target",
    "names",
    "of",
    "path_of",
    "pictures",
    "save_arrays",
    "save_each",
    "save_rows",
    "shown",
]
