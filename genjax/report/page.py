"""Build the page around the sections: one file, no external resource, complete without script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from genjax.markup import Html, tag
from genjax.report.style import CSS, JS


def page(
    title: str, kicker: str, stand: str, hero: Html | None, sections: Sequence[Html | None], foot: str
) -> str:
    """Return a complete HTML document.

    Args:
      title: the headline.
      kicker: the small line above it.
      stand: the paragraph below it.
      hero: the picture at the head.
      sections: in order; None is left out.
      foot: the last line.
    """
    kept = [s for s in sections if s is not None]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    button = tag("button", "light / dark", id="theme", type="button", hidden=True)
    nav = tag("nav", [_link(s) for s in kept], button)
    top = tag(
        "header",
        tag("p", kicker, class_="kicker"),
        tag("h1", title),
        tag("p", stand, class_="stand"),
        hero,
        nav,
    )
    body = tag("body", top, tag("main", kept), tag("footer", foot), tag("script", Html(JS)))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _link(section: Html) -> Html:
    """Return a link to a section by its id, which is also its short name."""
    name = re.findall(r' id="([^"]+)"', section[: section.index(">")])[0]
    return tag("a", name.capitalize(), href=f"#{name}")


def tidy(value: Any) -> Any:
    """Return a value that JSON can hold: NaN and infinities become None, and mappings plain dicts."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(k): tidy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(v) for v in value]
    return value
