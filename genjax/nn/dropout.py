"""Apply dropout with one PRNG key per row, so that its noise does not depend on how rows are grouped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.functional.noise import fold as fold


def dropout(x: Float[Array, "B *shape"], rate: float, keys: Keys | None) -> Float[Array, "B *shape"]:
    """Set a fraction `rate` of the values to 0 and scale up the others (Srivastava et al. 2014, sec. 10).

    Each value uses eight random bits: the rate is rounded to a multiple of 1/256, and the scale is exact for
    the rounded rate. Returns x if keys is None or the rate rounds to 0.
    """
    dropped = round(rate * 256)
    if keys is None or dropped == 0:
        return x
    size = x[0].size
    # One random 32-bit word holds the bits of four values: a quarter of the random words.
    words = jax.vmap(lambda key: jax.random.bits(key, (-(-size // 4),), jnp.uint32))(keys)
    octets = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(x.shape[0], -1)[:, :size].reshape(x.shape)
    return jnp.where(octets >= dropped, x * (256 / (256 - dropped)), 0).astype(x.dtype)
