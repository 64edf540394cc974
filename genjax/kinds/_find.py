"""Find the kind of an element. Standard library only at import."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

from genjax import plugins
from genjax.kinds._interface import Defaults, Kind
from genjax.spec import Element, Spec

PACKAGE = "genjax.kinds"


class _Complete:
    """Present a kind's module with the defaults filled in."""

    def __init__(self, module: ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            return getattr(Defaults, name)


def names() -> list[str]:
    """Return the names of the kinds of this package."""
    return plugins.names(PACKAGE)


def of(element: Element) -> Kind | None:
    """Return the kind of an element; None for one that is never shown by itself.

    Raises:
      ConfigError: no such kind; names the nearest.
    """
    if element.kind is None:
        return None
    return cast(Kind, _Complete(plugins.load(PACKAGE, element.kind, "kind of data")))


def shown(spec: Spec, names: Sequence[str]) -> list[tuple[str, Kind]]:
    """Return (name, kind) of those of the named elements that have a kind, in the order of the spec."""
    found = [(name, of(spec[name])) for name in spec.elements if name in names]
    return [(name, kind) for name, kind in found if kind is not None]


def main_target(spec: Spec) -> str | None:
    """Return the first target that has a kind: what metrics of one array measure; None without one."""
    return next((name for name, _ in shown(spec, spec.targets)), None)
