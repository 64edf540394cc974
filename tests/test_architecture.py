"""The arrows of docs/DESIGN.md: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"errors", "config", "spec", "plugins", "files", "markup"}
"""Modules of the standard library only, which import each other at most."""
MATHS = {"core", "functional"} | LEAVES
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "spec": set(),
    "files": set(),
    "markup": set(),
    "config": {"errors"},
    "plugins": {"errors"},
    "core": {"spec"},
    "functional": {"core"} | LEAVES,
    "music": LEAVES,
    "kinds": {"music"} | LEAVES,
    "views": {"kinds"} | MATHS,
    "counting": {"views"} | MATHS,
    "nn": {"views"} | MATHS,
    "sampling": {"views", "kinds"} | MATHS,
    "compose": {"sampling"} | MATHS,
    "models": {"nn", "views", "counting", "sampling", "compose"} | MATHS,
    "data": {"kinds", "music"} | LEAVES,
    "training": MATHS,
    "evaluation": {"data", "kinds", "sampling"} | MATHS,
    "report": {"kinds", "evaluation.scores"} | LEAVES,
    "interop": MATHS,
    "settings": {"data", "evaluation", "training"} | LEAVES,
    "workflows": {
        *(
            "core",
            "data",
            "evaluation",
            "interop",
            "kinds",
            "report",
            "sampling",
            "settings",
            "training",
            "views",
        )
    }
    | LEAVES,
    "commands": {"workflows", "settings", "data", "report", "training"} | LEAVES,
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


def test_every_module_has_a_rule_and_every_rule_a_module():
    assert {room(path) for path in sources()} == set(MAY_IMPORT)


def test_the_rules_have_no_cycle():
    """A module stands above all that it may import."""
    placed: set[str] = set()
    rest = {name: {m.split(".")[0] for m in allowed} for name, allowed in MAY_IMPORT.items()}
    while rest:
        ready = {name for name, allowed in rest.items() if allowed <= placed | {name}}
        assert ready, f"a cycle among {sorted(rest)}"
        placed |= ready
        rest = {name: allowed for name, allowed in rest.items() if name not in ready}


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
    outside = {n for n in outside if not n.startswith("genjax.spec")}
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
