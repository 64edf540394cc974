"""Mix the styles of rows: some layers read the code of one row, the others that of another."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def mixed(
    codes: Float[Array, "N L W"], styles: Float[Array, "M L W"], layers: Sequence[int]
) -> Float[Array, "N M L W"]:
    """Return every row of `codes` with the given layers from every row of `styles`.

    Karras et al. 2019 (arXiv:1812.04948), fig. 3.
    """
    L = codes.shape[1]
    replaced = jnp.zeros((L,), bool).at[jnp.asarray(layers)].set(True)
    return jnp.where(replaced[None, None, :, None], styles[None], codes[:, None])
