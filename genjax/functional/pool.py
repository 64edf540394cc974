"""Keep generated images for critics, so that these do not forget what generators made before.

Shrivastava et al. 2017 (arXiv:1612.07828, sec. 2.3), as CycleGAN uses it (Zhu et al. 2017, arXiv:1703.10593,
sec. 4): a pool of the last images, from which half of a batch is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys


class Pool(NamedTuple):
    """Hold images.

    Attributes:
      images: N of them; those beyond `count` are zeros.
      count: how many there are.
    """

    images: Float[Array, "N *shape"]
    count: Int[Array, ""]

    @classmethod
    def empty(cls, size: int, shape: tuple[int, ...]) -> Pool:
        """Return a pool for `size` images."""
        return cls(jnp.zeros((size, *shape)), jnp.int32(0))


def exchanged(
    pool: Pool, images: Float[Array, "B *shape"], mask: Float[Array, " B"], keys: Keys
) -> tuple[Float[Array, "B *shape"], Pool]:
    """Return the images that a critic sees, and the pool after them, row by row.

    While the pool is not full, an image is kept and shown. Then each image is shown itself or, with
    probability 1/2, takes the place of a random one of the pool, which is shown.

    Args:
      mask: 0 for padding, which is shown and never kept.
    """
    size = pool.images.shape[0]

    def one(pool: Pool, row: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Pool, jax.Array]:
        image, counts, key = row
        coin, place = jax.random.split(key)
        full = pool.count >= size
        at = jnp.where(full, jax.random.randint(place, (), 0, size), pool.count)
        swap = full & jax.random.bernoulli(coin)
        kept = (counts > 0) & (swap | ~full)
        old = pool.images[at]
        images = pool.images.at[at].set(jnp.where(kept, image, old))
        count = pool.count + (kept & ~full)
        return Pool(images, count), jnp.where(kept & swap, old, image)

    after, shown = jax.lax.scan(one, pool, (images, mask, keys))
    return shown, after
