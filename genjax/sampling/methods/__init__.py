"""Methods that sample from a diffusion, by name; each is a function that returns a `Method`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from genjax.errors import ConfigError, nearest
from genjax.functional.schedules import Path
from genjax.sampling.methods.adams import deis, lms, pndm
from genjax.sampling.methods.base import Estimate, Method, Point
from genjax.sampling.methods.dpm import dpm_solver, dpm_solver_sde
from genjax.sampling.methods.single import consistency, ddim, ddpm, euler, euler_ancestral, heun
from genjax.sampling.methods.unipc import unipc

__all__ = ["METHODS", "Estimate", "Method", "Point", "method"]
METHODS: dict[str, Callable[..., Method]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpm_solver": dpm_solver,
    "dpm_solver_sde": dpm_solver_sde,
    "deis": deis,
    "unipc": unipc,
    "lms": lms,
    "pndm": pndm,
    "consistency": consistency,
}


def method(name: str | Method, *, path: Path | None = None, **options: Any) -> Method:
    """Return the method of this name with the options that are not None; a Method is returned unchanged.

    Args:
      path: of the denoiser, for methods that move to times of their own.

    Raises:
      ConfigError: the name is unknown, or the method has no such option.
    """
    options = {k: v for k, v in options.items() if v is not None}
    if isinstance(name, Method):
        if options:
            names = ", ".join(options)
            raise ConfigError(f"{names} cannot be set on a Method", "give them to its constructor")
        return name
    if name not in METHODS:
        raise ConfigError(f"unknown sampler {name!r}{nearest(name, METHODS)}", f"one of {', '.join(METHODS)}")
    known = [n for n in inspect.signature(METHODS[name]).parameters if n != "path"]
    wrong = [n for n in options if n not in known]
    if wrong:
        raise ConfigError(
            f"the sampler {name!r} has no such option: {', '.join(wrong)}",
            f"it has: {', '.join(known) or 'none'}",
        )
    if "path" in inspect.signature(METHODS[name]).parameters:
        options["path"] = path
    return METHODS[name](**options)
