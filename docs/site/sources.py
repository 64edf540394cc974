"""Let links from pages to files of the checkout lead somewhere: each linked file gets a page of its own."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
"""A link or picture whose path begins with `../`."""
LANGUAGES = {".py": "python", ".toml": "toml", ".txt": "text", "": "make"}


def pages(written: Mapping[str, str]) -> dict[str, str]:
    """Return {page: text} of the files outside docs/ that the pages `written` ({path: text}) link to."""
    found: dict[str, str] = {}
    for path, text in written.items():
        for match in LINK.finditer(text):
            file = _file(path, match[3])
            if file is not None:
                found[_page(file)] = _text(file)
    return found


def linked(text: str, path: str) -> str:
    """Return the text of a page with its links to files outside docs/ replaced by links to their pages."""

    def replace(match: re.Match[str]) -> str:
        file = _file(path, match[3])
        if file is None:
            return match[0]
        target = posixpath.relpath(_page(file), posixpath.dirname(path) or ".")
        return f"{match[1]}[{match[2]}]({target})"

    return LINK.sub(replace, text)


def _file(page: str, link: str) -> Path | None:
    """Return the file of the checkout that a link of docs/`page` leads to; None if it stays inside docs/."""
    target = Path(os.path.normpath(ROOT / "docs" / posixpath.dirname(page) / link))
    if target.is_relative_to(ROOT / "docs") or not target.is_relative_to(ROOT):
        return None
    if target.is_dir():
        target = next(
            target / name for name in ("RESULTS.md", "README.md", "__init__.py") if (target / name).exists()
        )
    if not target.is_file():
        raise FileNotFoundError(f"docs/{page} links to {link}, which does not exist")
    return target


def _page(file: Path) -> str:
    return f"source/{file.relative_to(ROOT).as_posix()}.md"


def _text(file: Path) -> str:
    """Return a file as a page. The links of a Markdown file, which are relative to it, become plain words."""
    name = file.relative_to(ROOT).as_posix()
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        return re.sub(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
    return f"# `{name}`\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text}````\n"
