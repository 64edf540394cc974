"""genjax: every major family of generative model behind one contract, one loop and one evaluation."""

from __future__ import annotations

import importlib.metadata as _metadata

__version__ = "0.1.0"


def _refuse_namesake() -> None:
    """The package index's `genjax` is another project; installed together, each overwrites the other."""
    try:
        _metadata.version("genjax")
    except _metadata.PackageNotFoundError:
        return
    raise ImportError(
        "two projects named genjax are installed: this one (distribution genjax-lab) and an unrelated "
        "probabilistic-programming library (distribution genjax). They share the import name and cannot "
        "live in one environment.\n"
        "  hint: pip uninstall genjax genjax-lab, then reinstall genjax-lab in an environment of its own"
    )


_refuse_namesake()
