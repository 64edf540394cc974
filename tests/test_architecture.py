"""The arrows of docs/DESIGN.md: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
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
    "pictures": {"errors"},
    "core": {"spec"},
    "functional": {"core"} | LEAVES,
    "music": LEAVES,
    "kinds": {"music", "pictures"} | LEAVES,
    "languages": LEAVES,
    "views": {"kinds"} | MATHS,
    "counting": {"views"} | MATHS,
    "nn": {"views"} | MATHS,
    "sampling": {"views", "kinds", "languages"} | MATHS,
    "compose": {"sampling"} | MATHS,
    "models": {"nn", "views", "counting", "sampling", "compose"} | MATHS,
    "data": {"kinds", "music", "pictures"} | LEAVES,
    "training": MATHS,
    "latents": MATHS,
    "evaluation": {"data", "kinds", "latents", "sampling"} | MATHS,
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
            "latents",
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
            # What models share lives in nn, functional or sampling; a part of one model bears its name.
            family = path.stem.strip("_").split("_")[0]
            allowed = inner.split(".")[1].startswith(f"_{family}_")
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
    assert forbidden(ROOT / "genjax/report/figure.py", {"genjax.evaluation.prdc"}) == [
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


MAY_NAME_ELEMENTS = {"kinds", "models"}
"""Packages whose code may know elements by name; genjax/data/sources may too."""


def element_names() -> set[str]:
    """Names of kinds (files of genjax/kinds) and of elements (what sources describe by an Element)."""
    found = {p.stem for p in (ROOT / "genjax/kinds").glob("*.py") if not p.stem.startswith("_")}
    for path in (ROOT / "genjax/data/sources").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                keys = zip(node.keys, node.values, strict=True)
                found |= {str(k.value) for k, v in keys if isinstance(k, ast.Constant) and describes(v)}
            if isinstance(node, ast.Assign) and describes(node.value):
                targets = [t.slice for t in node.targets if isinstance(t, ast.Subscript)]
                found |= {str(s.value) for s in targets if isinstance(s, ast.Constant)}
    return found


def describes(node: ast.AST) -> bool:
    """Whether an expression makes an Element, or changes one."""
    names = ("Element", "replace")
    return isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in names


def named_elements(code: str, names: set[str]) -> list[int]:
    """Lines that compare with, or look up, the name of an element."""
    lines = []
    for node in ast.walk(ast.parse(code)):
        asked: Sequence[ast.AST] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            # `element.role == "target"` is about a role, which has the name of an element of pairs.
            asked = [] if any(getattr(side, "attr", "") == "role" for side in sides) else sides
        elif isinstance(node, ast.Subscript):
            asked = [] if getattr(node.value, "id", "") == "Literal" else [node.slice]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("get", "pop", "setdefault"):
            asked = list(node.args[:1])
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        constants = {c.value for part in asked for c in ast.walk(part) if isinstance(c, ast.Constant)}
        if constants & names:
            lines.append(node.lineno)
    return lines


def test_no_element_is_named_outside_kinds_sources_and_models():
    names = element_names()
    assert names >= {"image", "tokens", "label", "caption", "source", "target_length", "segment", "roll"}
    found = []
    for path in sources():
        inside = path.is_relative_to(ROOT / "genjax/data/sources")
        if not inside and room(path) not in MAY_NAME_ELEMENTS:
            found += [f"{path.relative_to(ROOT)}:{line}" for line in named_elements(path.read_text(), names)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'x = rows["image"]',
        'x = rows.get("label")',
        'if name == "tokens": pass',
        'if name in ("roll", "point"): pass',
        'if "source" in spec: pass',
    ],
)
def test_a_planted_line_is_found(line: str):
    assert named_elements(line, element_names()) == [1]
    assert named_elements("x = rows[name]", element_names()) == []
