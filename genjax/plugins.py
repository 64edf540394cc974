"""Find the modules of an extension point by name: models, kinds, sources, tokenizers and others.

Each extension point is a package whose files are its entries. A name without a dot refers to a file of that
package; a dotted name refers to a module outside it. Nothing is registered. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from genjax.errors import ConfigError, nearest


def names(package: str) -> list[str]:
    """Return the names of the entries of `package`, sorted; files that begin with `_` are helpers."""
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(m.name for m in pkgutil.iter_modules(locations) if not m.name.startswith("_"))


def load(package: str, name: str, what: str) -> ModuleType:
    """Import the entry `name` of `package`, or the module of that dotted name.

    Args:
      package: the package of the extension point, e.g. "genjax.models".
      name: an entry of the package, or a dotted path to a module outside it.
      what: the extension point in words, for the error message.

    Raises:
      ConfigError: no such module; names the nearest entry.
    """
    if "." not in name and name not in names(package):
        raise _unknown(package, name, what)
    target = name if "." in name else f"{package}.{name}"
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        # A missing dependency of the module is the module's own problem: show it as it is.
        if error.name is None or not (target == error.name or target.startswith(error.name + ".")):
            raise
        raise _unknown(package, name, what) from error


def _unknown(package: str, name: str, what: str) -> ConfigError:
    known = names(package)
    entries = f"use one of {', '.join(known)}, or give" if known else "give"
    return ConfigError(
        f"unknown {what} {name!r}{nearest(name, known)}",
        f"{entries} the dotted path of a module outside genjax",
    )
