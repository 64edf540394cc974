"""Change an attribute of a code by the difference between the mean codes of two of its values."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Int


def class_means(codes: Float[Array, "N *Z"], values: Int[Array, " N"], classes: int) -> Float[Array, "K *Z"]:
    """Return the mean of the codes of each value of an attribute; 0 for a value that does not occur."""
    count = jax.ops.segment_sum(jax.numpy.ones(values.shape), values, classes)
    total = jax.ops.segment_sum(codes, values, classes)
    return total / jax.numpy.maximum(count, 1).reshape(-1, *(1,) * (codes.ndim - 1))


def edited(
    codes: Float[Array, "B *Z"],
    means: Float[Array, "K *Z"],
    source: Int[Array, " B"],
    target: Int[Array, " B"],
    strength: float = 1.0,
) -> Float[Array, "B *Z"]:
    """Move codes from the mean of one value of an attribute to that of another.

    What distinguishes a row from the mean of its value (its style) is kept: the attribute vector of White
    2016 (arXiv:1609.04468, sec. 3), for attributes of any number of values.

    Args:
      source, target: the value that each row has, and the one that it should have.
      strength: 1 for the whole difference.
    """
    return codes + strength * (means[target] - means[source])
