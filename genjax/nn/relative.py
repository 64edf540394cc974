"""Bias attention scores by relative position: one learned number per head and bucket of distances."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.nn.embedding import lookup


@dataclasses.dataclass(frozen=True)
class RelativeBias:
    """Describe the distance buckets of T5 (Raffel et al. 2020, arXiv:1910.10683, sec. 2.1).

    Attributes:
      buckets: total number; a bidirectional bias uses half of them for each direction.
      max_distance: all distances from here on share the last bucket.
    """

    buckets: int = 32
    max_distance: int = 128

    def bucket(self, distance: Int[Array, "*B"], *, causal: bool) -> Int[Array, "*B"]:
        """Return the bucket of each distance (key slot - query slot).

        Half of a direction's buckets hold one near distance each; the others grow logarithmically.
        """
        buckets = self.buckets
        far = -distance
        side = 0
        if not causal:
            # The second half of the buckets is for keys after the query.
            buckets //= 2
            side = jnp.where(distance > 0, buckets, 0)
            far = jnp.abs(distance)
        far = jnp.maximum(far, 0)
        exact = buckets // 2
        # exact + log(far / exact) / log(max_distance / exact) * (buckets - exact); far is at least 1 here so
        # that the logarithm is finite where the exact buckets are used anyway.
        ratio = jnp.log(jnp.maximum(far, 1).astype(jnp.float32) / exact) / math.log(self.max_distance / exact)
        wide = exact + (ratio * (buckets - exact)).astype(jnp.int32)
        return side + jnp.where(far < exact, far, jnp.minimum(wide, buckets - 1))


@struct.dataclass
class Bias:
    """Hold a table of biases and the form that maps distances to its rows."""

    table: Float[Array, "buckets H"]
    form: RelativeBias = struct.field(pytree_node=False)
    causal: bool = struct.field(pytree_node=False)

    def __call__(
        self, query: Int[Array, " b"], key: Int[Array, " b"], T: int, S: int
    ) -> Float[Array, "b H T S"]:
        """Return the bias of T consecutive queries on S consecutive keys.

        Only the T + S - 1 distinct distances are looked up: the result's row t is one vector, shifted by t.

        Args:
          query, key: slots of the first query and of the first key; b is 1 or B.
        """
        n = T + S
        # v[m] is the bias of distance m for m < S and of distance m - n for m >= S, so that the bias of
        # (t, s) is v[(s - t) mod n].
        m = jnp.arange(n)
        distance = jnp.where(m < S, m, m - n)[None] + (key - query)[:, None]
        v = lookup(self.table, self.form.bucket(distance, causal=self.causal)).transpose(0, 2, 1)
        # A Toeplitz matrix without a gather: lay out T copies of v in rows of n - 1 numbers. Entry (t, s) is
        # then number t (n - 1) + s, which is (s - t) mod n within a copy.
        rows = jnp.tile(v, (1, 1, T))[..., : T * (n - 1)]
        return rows.reshape(*v.shape[:2], T, n - 1)[..., :S]


class Relative(nn.Module):
    """Hold the table that all layers of a stack share: parameter `embedding`, buckets x heads, float32."""

    form: RelativeBias
    heads: int
    causal: bool
    std: float

    @nn.compact
    def __call__(self) -> Bias:
        shape = (self.form.buckets, self.heads)
        return Bias(self.param("embedding", nn.initializers.normal(self.std), shape), self.form, self.causal)
