"""Embed files that a run saved, pictures and texts, in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
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


def animation(paths: Sequence[Path], alt: str, milliseconds: int = 250) -> Html | None:
    """Return pictures one after the other, again and again; None unless two are of one size and readable."""
    frames = [frame for frame in map(_frame, paths) if frame is not None]
    frames = [frame for frame in frames if frame.size == frames[-1].size]
    if len(frames) < 2 or frames[0].width * frames[0].height > PIXELS:
        return None
    # The last one stays a while, so that the end can be looked at.
    times = [milliseconds] * (len(frames) - 1) + [8 * milliseconds]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return tag("img", src=_encoded(buffer), alt=alt)


def _frame(path: Path) -> Image.Image | None:
    """Return a picture in colour; None if it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError):
        return None


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
    return _encoded(buffer)


def _encoded(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text(path: Path) -> Html | None:
    """Return the beginning of a text file."""
    try:
        written = path.read_text("utf-8", errors="replace")
    except OSError:
        return None
    return tag("pre", written[:LETTERS] + ("…" if len(written) > LETTERS else ""), class_="text")
