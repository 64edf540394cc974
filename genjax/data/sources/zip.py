"""zip:A,B: two datasets side by side, unpaired: elements image_a, label_a, image_b ...

In the order `shuffled` each has a shuffle and epochs of its own; an epoch of both is one of the longer.
In `once` the shorter begins again until the longer ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import string

from genjax.data.config import Config
from genjax.data.load import Loaded, read
from genjax.data.rows import Zipped
from genjax.errors import DataError


def load(config: Config, argument: str) -> Loaded:
    """The parts' elements, each with its letter."""
    names = [n.strip() for n in argument.split(",") if n.strip()]
    if len(names) < 2:
        raise DataError(f"zip: needs two datasets, and {config.name!r} names {len(names)}", "write zip:A,B")
    parts = [read(dataclasses.replace(config, name=name)) for name in names]
    letters = string.ascii_lowercase[: len(parts)]
    elements = {f"{k}_{s}": e for s, p in zip(letters, parts, strict=True) for k, e in p.elements.items()}
    content = hashlib.sha256(" ".join(p.content for p in parts).encode()).hexdigest()
    return Loaded(
        elements,
        Zipped({s: p.train for s, p in zip(letters, parts, strict=True)}),
        Zipped({s: p.eval for s, p in zip(letters, parts, strict=True)}),
        content,
        info=" beside ".join(names),
    )
