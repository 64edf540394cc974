"""Join two datasets side by side, unpaired, with elements image_a, label_a, image_b ...: zip:A,B.

The targets of A become conditions and those of B stay targets: a model translates from A to B. All other
elements are auxiliary, since a label of A says nothing about the row of B beside it.

In the order `shuffled`, each dataset is shuffled by itself and has its own epochs; an epoch of both is one of
the longer dataset. In the order `once`, the shorter one starts again until the longer one ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import string

from genjax.data.config import Config
from genjax.data.load import Loaded, read
from genjax.data.rows import Zipped
from genjax.errors import DataError
from genjax.spec import Element

USAGE = "zip:A,B"


def load(config: Config, argument: str) -> Loaded:
    """Return the rows of all parts, each element with the letter of its part.

    Raises:
      DataError: fewer than two datasets are named.
    """
    names = [n.strip() for n in argument.split(",") if n.strip()]
    if len(names) < 2:
        raise DataError(f"zip: needs two datasets, but {config.name!r} names {len(names)}", "write zip:A,B")
    parts = [read(dataclasses.replace(config, name=name)) for name in names]
    letters = string.ascii_lowercase[: len(parts)]
    elements = {
        f"{name}_{letter}": _in_pair(element, number)
        for number, (letter, part) in enumerate(zip(letters, parts, strict=True))
        for name, element in part.elements.items()
    }
    content = hashlib.sha256(" ".join(p.content for p in parts).encode()).hexdigest()
    return Loaded(
        elements,
        Zipped({s: p.train for s, p in zip(letters, parts, strict=True)}),
        Zipped({s: p.eval for s, p in zip(letters, parts, strict=True)}),
        content,
        info=" beside ".join(names),
    )


def _in_pair(element: Element, number: int) -> Element:
    """Return an element of part `number` with its role in a translation from the first part."""
    if element.role != "target":
        return element.replace(role="auxiliary")
    return element.replace(role="condition" if number == 0 else "target")
