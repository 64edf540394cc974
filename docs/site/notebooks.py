"""Show the notebooks as pages."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "notebooks"


def pages() -> dict[str, str]:
    """Return {page: text} of every notebook."""
    return {f"notebooks/{path.stem}.md": _page(path) for path in sorted(FOLDER.glob("*.ipynb"))}


def _page(path: Path) -> str:
    """Return the cells of a notebook, with a line on how to run it below its heading."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first, *rest = (_cell(cell) for cell in cells)
    how = "run it with `jupyter lab notebooks` (`pip install jupyterlab` installs Jupyter)."
    note = f"!!! note\n    This page is `notebooks/{path.name}`: {how}"
    return "\n\n".join((first, note, *rest)) + "\n"


def _cell(cell: dict) -> str:
    text = "".join(cell["source"])
    return text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
