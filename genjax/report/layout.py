"""Build what the sections of a page have in common: headings, cards and lists of definitions."""

from __future__ import annotations

from typing import Any

from genjax.markup import Html, tag


def section(name: str, title: str, lead: str | None, *content: Any) -> Html:
    """Return a part of the page under its heading; `name` is its id and its entry in the navigation."""
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, content, id=name)


def cards(found: list[Html]) -> Html:
    """Return cards next to each other, as many as fit."""
    return tag("div", found, class_="cards")


def card(name: str, note: str, index: int | None, *content: Any) -> Html:
    """Return a card in the colour of entry `index`; in that of the text for None."""
    css = "card real" if index is None else f"card c{index}"
    head = tag("header", tag("h3", name), tag("small", note))
    return tag("article", head, content, class_=css, data_entry=index)


def definitions(values: dict[str, Any]) -> Html | None:
    """Return names and values; nested mappings are flattened and missing values left out."""
    rows = []
    for key, value in values.items():
        if value is None or value == "":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        rows.append([tag("dt", key), tag("dd", value)])
    return tag("dl", rows) if rows else None


def thousands(count: int) -> str:
    """Write a count with narrow gaps between thousands."""
    return f"{count:,}".replace(",", " ")
