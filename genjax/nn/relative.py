"""Relative positions as a bias on attention's scores, one learned number per head and bucket of distances."""

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
    """The buckets of T5 (Raffel et al. 2020, arXiv:1910.10683, section 2.1).

    Attributes:
      buckets: in all; where queries see both ways, half of them for each.
      max_distance: from here on all distances share the last bucket.
    """

    buckets: int = 32
    max_distance: int = 128

    def bucket(self, distance: Int[Array, "*B"], *, causal: bool) -> Int[Array, "*B"]:
        """The bucket of key slot - query slot: one each for near distances, then logarithmically wider."""
        buckets, far, side = self.buckets, -distance, 0
        if not causal:
            buckets //= 2
            side = jnp.where(distance > 0, buckets, 0)
            far = jnp.abs(distance)
        far = jnp.maximum(far, 0)
        exact = buckets // 2
        ratio = jnp.log(jnp.maximum(far, 1).astype(jnp.float32) / exact) / math.log(self.max_distance / exact)
        wide = exact + (ratio * (buckets - exact)).astype(jnp.int32)
        return side + jnp.where(far < exact, far, jnp.minimum(wide, buckets - 1))


@struct.dataclass
class Bias:
    """A table of biases, and how distances find their row in it."""

    table: Float[Array, "buckets H"]
    form: RelativeBias = struct.field(pytree_node=False)
    causal: bool = struct.field(pytree_node=False)

    def __call__(
        self, query: Int[Array, " b"], key: Int[Array, " b"], T: int, S: int
    ) -> Float[Array, "b H T S"]:
        """The bias of T consecutive queries on S consecutive keys, which begin at these slots.

        Only the T + S - 1 different distances are looked up: row t of the result is the same vector, shifted.
        """
        n = T + S
        # v[m] is the bias of distance m for m < S and of m - n beyond, so that (t, s) finds (s - t) mod n.
        m = jnp.arange(n)
        distance = jnp.where(m < S, m, m - n)[None] + (key - query)[:, None]
        v = lookup(self.table, self.form.bucket(distance, causal=self.causal)).transpose(0, 2, 1)
        rows = jnp.tile(v, (1, 1, T))[..., : T * (n - 1)]
        return rows.reshape(*v.shape[:2], T, n - 1)[..., :S]


class Relative(nn.Module):
    """The table that all layers of a stack share: parameter `embedding`, buckets x heads, float32."""

    form: RelativeBias
    heads: int
    causal: bool
    std: float

    @nn.compact
    def __call__(self) -> Bias:
        shape = (self.form.buckets, self.heads)
        return Bias(self.param("embedding", nn.initializers.normal(self.std), shape), self.form, self.causal)
