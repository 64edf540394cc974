"""HTML and SVG as nested calls. Text is escaped by construction: only `Html` passes through unescaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"meta", "img", "br", "hr", "input", "col", "link"})


class Html(str):
    """Text that is already markup."""

    __slots__ = ()


def join(children: Iterable[Any]) -> Html:
    """The children as markup: None is nothing, lists are flattened, any other value is escaped text."""
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
    """One element. `class_="a"` is class, `data_entry=1` is data-entry; None is left out, True is bare."""
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
