"""List the pages of the API: one for each package or module of genjax, from its docstrings."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "genjax"
FIRST = ("core", "spec", "workflows", "models", "nn", "functional", "sampling", "data", "kinds", "evaluation")
"""What a reader looks for first; the others follow by name."""


def titles() -> dict[str, str]:
    """Return {page: title}."""
    return {f"api/{name}.md": f"genjax.{name}" for name in _names()}


def pages() -> dict[str, str]:
    """Return {page: text}; mkdocstrings replaces each `:::` by the documentation of a module."""
    return {f"api/{name}.md": _page(name) for name in _names()}


def _names() -> list[str]:
    found = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    public = sorted(name for name in found if not name.startswith("_"))
    return sorted(public, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _page(name: str) -> str:
    folder = PACKAGE / name
    modules = [name]
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*.py"))
        parts = [path.relative_to(PACKAGE).with_suffix("").parts for path in files]
        modules += [".".join(part) for part in parts if not any(word.startswith("_") for word in part)]
        modules += [".".join(part[:-1]) for part in parts if part[-1] == "__init__" and len(part) > 2]
    blocks = [f"::: genjax.{module}\n" for module in dict.fromkeys(modules)]
    return f"---\ntitle: genjax.{name}\n---\n\n# genjax.{name}\n\n" + "\n".join(blocks)
