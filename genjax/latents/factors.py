"""Find directions of a generator's codes without labels: closed-form factorisation (SeFa).

Shen & Zhou 2021 (arXiv:2007.06600): the directions n of unit norm that the kernels A reading a code change
the most, argmax |A n|^2, are the eigenvectors of A^T A with the largest eigenvalues (eq. 5 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def directions(
    kernels: Sequence[Float[Array, "W _"]], most: int
) -> tuple[Float[Array, "D W"], Float[Array, " D"]]:
    """Return the directions that kernels change the most, in falling order, and their eigenvalues.

    The vector that an output reads is divided by its norm first, as in the authors' code, so that layers
    with large weights do not decide alone. The sign of a direction is that of its largest entry.

    Args:
      kernels: of the layers whose codes are moved together.
      most: D, at most W.
    """
    kernel = jnp.concatenate(list(kernels), -1)
    kernel = kernel / jnp.maximum(jnp.linalg.norm(kernel, axis=0, keepdims=True), 1e-12)
    values, vectors = jnp.linalg.eigh(kernel @ kernel.T)
    # eigh returns them in rising order.
    found = vectors[:, ::-1].T[:most]
    largest = jnp.take_along_axis(found, jnp.abs(found).argmax(1, keepdims=True), 1)
    return found * jnp.sign(largest), values[::-1][:most]


def moved(
    codes: Float[Array, "B L W"],
    direction: Float[Array, " W"],
    distances: Float[Array, " S"],
    layers: Sequence[int],
) -> Float[Array, "B S L W"]:
    """Return codes moved along a direction by each distance, in some of the layers."""
    chosen = jnp.zeros((codes.shape[1],)).at[jnp.asarray(layers)].set(1.0)
    change = distances[:, None, None] * chosen[None, :, None] * direction[None, None]
    return codes[:, None] + change[None]
