"""The notebooks run from top to bottom at their smoke size, and are committed without outputs."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from genjax.workflows import train

FOLDER = Path(__file__).parent.parent / "notebooks"
WRITTEN = {
    "quickstart": ["runs/quickstart/scores.json", "runs/quickstart/samples/by_class.png"],
    "your_data": ["runs/shapes/samples/classes.png", "runs/book/config.json"],
    "latent": [
        "runs/latent-digits/latent/interpolate.png",
        "runs/latent-digits/latent/edit.png",
        "runs/latent-digits/latent/search.png",
    ],
    "diffusion": ["runs/diffusion-digits/evaluations.png", "runs/diffusion-digits/paths.png"],
    "gan": ["runs/collapse-plain/scores.json", "runs/collapse-cured/missing.png"],
    "your_model": ["my_models/flow.py", "runs/digits-flow/scores.json"],
}
"""Files that show that each notebook reached its end."""


def cells(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))["cells"]


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(WRITTEN)


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_committed_without_outputs(name: str):
    for cell in cells(name):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("name", WRITTEN)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Every code cell, in one process: starting a kernel for each notebook would take longer than they do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENJAX_NOTEBOOK_SIZE", "smoke")
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Eight emulated devices on a few cores only cost time here.
    monkeypatch.setattr(train, "train", functools.partial(train.train, devices=jax.devices()[:1]))
    modules = {*sys.modules}
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for number, cell in enumerate(cells(name)):
            if cell["cell_type"] == "code":
                code = compile("".join(cell["source"]), f"{name}.ipynb, cell {number}", "exec")
                exec(code, namespace)
    finally:
        for module in {*sys.modules} - modules:
            if module.startswith("my_models"):
                del sys.modules[module]
    assert capsys.readouterr().out
    for path in WRITTEN[name]:
        assert (tmp_path / path).is_file(), path
