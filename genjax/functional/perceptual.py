"""Compare images by the activations of a network."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def distance(
    a: Sequence[Float[Array, "B h w C"]], b: Sequence[Float[Array, "B h w C"]]
) -> Float[Array, " B"]:
    """Compute the perceptual distance of two images from their activations at several layers.

    Activations are normalised at each position; squared differences are summed over channels, averaged over
    positions and summed over layers (LPIPS, Zhang et al. 2018, arXiv:1801.03924, eq. 1, with weights of 1).
    """
    each = [jnp.square(_unit(x) - _unit(y)).sum(-1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
    return sum(each[1:], each[0])


def _unit(x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
    """Divide by the norm over channels. The root is of a positive number: its gradient is finite at 0."""
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-8)
