"""Add the pages of the site that are generated when it is built: mkdocs calls these functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
for folder in (HERE, ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import api  # noqa: E402 (found beside this file)
import config_reference  # noqa: E402
import sources  # noqa: E402
import tables  # noqa: E402

import notebooks  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append to the navigation the pages of the API, one for each package, and guides that it lacks."""
    assert config.nav is not None
    sections = {title: pages for section in config.nav for title, pages in section.items()}
    named = {path for entry in sections["Guides"] for path in entry.values()}
    guides = sorted(f"guides/{path.name}" for path in (HERE.parent / "guides").glob("*.md"))
    sections["Guides"] += [path for path in guides if path not in named]
    config.nav.append({"API": [{title: path} for path, title in api.titles().items()]})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {**api.pages(), **notebooks.pages(), "reference/config.md": config_reference.page()}
    written = {file.src_uri: Path(str(file.abs_src_path)).read_text("utf-8") for file in _markdown(files)}
    pages |= sources.pages(written)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _markdown(files: Files) -> list[File]:
    return [file for file in files if file.src_uri.endswith(".md") and not file.inclusion.is_excluded()]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links to files of the checkout lead to their pages, and show pipes in the code of tables."""
    return tables.shown(sources.linked(markdown, page.file.src_uri))
