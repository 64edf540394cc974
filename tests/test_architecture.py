"""The arrows of docs/DESIGN.md: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"errors", "config"}
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "core": set(),
    "functional": {"core"} | LEAVES,
    "nn": {"core", "functional"} | LEAVES,
    "sampling": {"core", "functional"} | LEAVES,
    "compose": {"core", "functional", "sampling"} | LEAVES,
    "models": {"core", "functional", "nn", "sampling", "compose"} | LEAVES,
    "music": LEAVES,
    "data": {"core", "functional", "music"} | LEAVES,
    "training": {"core", "functional"} | LEAVES,
    "evaluation": {"core", "functional", "data"} | LEAVES,
    "report": {"music"} | LEAVES | {"evaluation.scores"},
    "interop": {"core", "functional"} | LEAVES,
    "cli": {"errors", "commands"},
}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "genjax").parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full dotted names of what a file imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[Path]:
    return sorted((ROOT / "genjax").rglob("*.py"))


def forbidden(path: Path, names: set[str]) -> list[str]:
    """Those of `names` that this file's room may not import."""
    own = room(path)
    if own not in MAY_IMPORT:
        return []
    wrong = []
    for name in sorted(n for n in names if n.startswith("genjax.")):
        inner = name.removeprefix("genjax.")
        other = inner.split(".")[0]
        allowed = other == own or other in MAY_IMPORT[own]
        allowed |= any(inner == a or inner.startswith(a + ".") for a in MAY_IMPORT[own] if "." in a)
        if own == "models" and other == "models":
            allowed = False  # what models share lives in nn, functional or sampling
        if not allowed and other != "__version__":
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path):
    assert forbidden(path, imports(path)) == []


def test_the_rule_sees_a_wrong_arrow():
    models, training = ROOT / "genjax/models/gpt.py", ROOT / "genjax/training/loop.py"
    assert forbidden(models, {"genjax.models.vae", "genjax.nn.conv"}) == ["genjax.models.vae"]
    assert forbidden(training, {"genjax.models.vae.Config"}) == ["genjax.models.vae.Config"]
    assert forbidden(ROOT / "genjax/report/grids.py", {"genjax.evaluation.prdc"}) == [
        "genjax.evaluation.prdc"
    ]


def test_core_imports_jax_and_flax_struct_only():
    outside = {
        n
        for n in imports(ROOT / "genjax/core.py")
        if not n.startswith(("__future__", "collections", "typing"))
    }
    assert outside <= {"dataclasses", "jax", "jax.numpy", "flax.struct"}


def test_configs_import_models_and_begin_from_other_configs_only():
    for path in (ROOT / "configs").rglob("*.py"):
        for name in imports(path):
            own = name.startswith("genjax.models.") or name in ("genjax.settings", "genjax.settings.load")
            assert own or not name.startswith("genjax."), (path, name)


@pytest.mark.parametrize("module", ["genjax.cli", "genjax.report", "genjax.errors"])
def test_light_modules_import_nothing_heavy(module: str):
    heavy = ("jax", "flax", "numpy", "tensorflow")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_model_is_named_outside_models():
    """No `if model == ...`: no comparison with the name of an architecture outside its own room."""
    names = {p.stem for p in (ROOT / "genjax/models").glob("*.py")} - {"__init__"}
    for path in sources():
        if room(path) == "models":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not constants & names, f"{path}:{node.lineno} compares with {constants & names}"
