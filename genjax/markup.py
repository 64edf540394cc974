"""Build HTML and SVG from nested calls. All text is escaped except `Html`, which is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"meta", "img", "br", "hr", "input", "col", "link"})


class Html(str):
    """Mark text as markup, which is not escaped."""

    __slots__ = ()


def join(children: Iterable[Any]) -> Html:
    """Return the children as markup: None is left out, lists are flattened, other values are escaped text."""
    parts: list[str] = []
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(child))
        else:
            parts.append(html.escape(str(child), quote=True))
    return Html("".join(parts))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Return one element.

    Attributes: `class_` is written as class and `data_entry` as data-entry; None and False are left out, and
    True is written without a value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        if isinstance(value, float):
            value = f"{value:.2f}".rstrip("0").rstrip(".")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening if name in VOID else f"{opening}{join(children)}</{name}>")
