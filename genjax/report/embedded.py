"""Embed files that a run saved, pictures and texts, in a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from genjax.markup import Html, tag

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 2_000_000
"""Larger pictures are cropped."""
CROP = 1400
"""Pixels on each side of a cropped picture."""
LETTERS = 900
"""Characters of a text that are shown."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


def show(path: Path, alt: str) -> Html | None:
    """Return a picture or a text file as markup; None if it is missing, unreadable or of another form."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        uri = _picture(path)
        return tag("img", src=uri, alt=alt) if uri else None
    return _text(path) if suffix == ".txt" else None


def _picture(path: Path) -> str | None:
    """Return a picture file as a PNG inside a URI: its upper left part if it is large."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.width * picture.height > PIXELS:
                picture = picture.crop((0, 0, min(picture.width, CROP), min(picture.height, CROP)))
            return _uri(picture)
    except (OSError, UnidentifiedImageError, ValueError):
        return None


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text(path: Path) -> Html | None:
    """Return the beginning of a text file."""
    try:
        written = path.read_text("utf-8", errors="replace")
    except OSError:
        return None
    return tag("pre", written[:LETTERS] + ("…" if len(written) > LETTERS else ""), class_="text")
