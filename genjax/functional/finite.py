"""Note in a compiled program that its values are not finite; whoever runs the program reads the note."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import checkify
from jaxtyping import Array, Bool

from genjax.core import Tree

_SAYS = " not finite"


def note(bad: Bool[Array, "..."], what: str) -> None:
    """Note that `what` is not finite if any of `bad` is True.

    The note stays on the device. A program that was transformed by `checkify` returns it, and `noted` reads
    it; in any other program this does nothing.
    """
    checkify.debug_check(~bad.any(), what + _SAYS)


def note_values(x: Tree, what: str) -> None:
    """Note that `what` is not finite if a value of an array or tree is NaN or infinite.

    Call it before values are rounded to integers, which always look valid.
    """
    for leaf in jax.tree.leaves(x):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            note(~jnp.isfinite(leaf), what)


def noted(error: checkify.Error) -> str | None:
    """Return the first `what` of the notes that a program returned; None if there is none."""
    said = error.get()
    return None if said is None else said.split(_SAYS)[0]
