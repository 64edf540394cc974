"""Find the modules of an extension point by name: models, kinds, sources, tokenizers and others.

Each extension point is a package whose files are its entries. A name without a dot refers to a file of that
package; a dotted name refers to a module outside it. Nothing is registered. Standard library only.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from genjax.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Entry:
    """Declare that a text names a module of an extension point: Annotated[str, Entry(PACKAGE, "metric")].

    A `config.Rule`. It imports no module: whether one outside the package exists is seen by `load`.

    Attributes:
      package: of the extension point.
      what: an entry in words.
      argument: an argument may follow the name, after a colon.
      builtin: names that are no files of the package.
    """

    package: str
    what: str
    argument: bool = False
    builtin: tuple[str, ...] = ()

    def fault(self, value: str) -> str | None:
        name = value.partition(":")[0] if self.argument else value
        known = self._known()
        if name in known or _is_dotted(name):
            return None
        return f"is not the name of a {self.what}{nearest(name, known)}"

    def __str__(self) -> str:
        known = ", ".join(self._known())
        rest = " (an argument may follow, after ':')" if self.argument else ""
        return f"one of {known}, or the dotted path of a module outside genjax{rest}"

    def _known(self) -> tuple[str, ...]:
        return self.builtin or tuple(names(self.package))


def _is_dotted(name: str) -> bool:
    """Return whether a name is the dotted path of a module."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def names(package: str) -> list[str]:
    """Return the names of the entries of `package`, sorted; files that begin with `_` are helpers."""
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(m.name for m in pkgutil.iter_modules(locations) if not m.name.startswith("_"))


def load(package: str, name: str, what: str, needs: Sequence[str] = ()) -> ModuleType:
    """Import the entry `name` of `package`, or the module of that dotted name.

    Args:
      package: the package of the extension point, e.g. "genjax.models".
      name: an entry of the package, or a dotted path to a module outside it.
      what: the extension point in words, for the error message.
      needs: names that the module must define.

    Raises:
      ConfigError: no such module, and names the nearest entry; or it defines no such names.
    """
    if name not in names(package) and not _is_dotted(name):
        raise _unknown(package, name, what)
    target = name if "." in name else f"{package}.{name}"
    try:
        module = importlib.import_module(target)
    except ModuleNotFoundError as error:
        # A missing dependency of the module is the module's own problem: show it as it is.
        if error.name is None or not (target == error.name or target.startswith(error.name + ".")):
            raise
        raise _unknown(package, name, what) from error
    for need in needs:
        if not hasattr(module, need):
            raise ConfigError(
                f"the module {name} is no {what}: it defines no {need}",
                f"name a module that defines {', '.join(needs)}",
            )
    return module


def _unknown(package: str, name: str, what: str) -> ConfigError:
    if _is_dotted(name):
        return ConfigError(
            f"{what} {name!r}: there is no such module",
            "correct the path, or put the folder that holds its first part on PYTHONPATH",
        )
    known = names(package)
    entries = f"use one of {', '.join(known)}, or give" if known else "give"
    return ConfigError(
        f"unknown {what} {name!r}{nearest(name, known)}",
        f"{entries} the dotted path of a module outside genjax",
    )
