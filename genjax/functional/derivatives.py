"""Compute derivatives of functions whose layers define reverse mode only."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def along(
    function: Callable[..., Float[Array, "*out"]], at: tuple[jax.Array, ...], direction: tuple[jax.Array, ...]
) -> tuple[Float[Array, "*out"], Float[Array, "*out"]]:
    """Return the value of a function and its derivative in a direction, as jax.jvp does.

    The pullback is linear in the cotangent, and the transpose of a linear map J^T is J: its own pullback
    takes the direction to the derivative. Functions with a custom rule for reverse mode (nn/linear.py) have
    no forward mode.
    """
    value, pull = jax.vjp(function, *at)
    _, push = jax.vjp(pull, jnp.zeros_like(value))
    (derivative,) = push(direction)
    return value, derivative
