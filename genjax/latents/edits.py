"""Change an attribute of a code: move it from the codes of one value of the attribute to those of another."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LARGEST = 128
"""Dimensions of a code up to which whole covariances are used; beyond, variances."""
FLOOR = 1e-4
"""Of variances, relative to their mean."""


class Moments(NamedTuple):
    """Hold the Gaussian of each value of an attribute.

    Attributes:
      mean: of the codes.
      covariance: of the codes, or their variances if codes are large.
    """

    mean: Float[Array, "K D"]
    covariance: Float[Array, "K D *D"]


def moments(codes: Float[Array, "N *Z"], values: Int[Array, " N"], classes: int) -> Moments:
    """Return the Gaussians of the codes of each value of an attribute.

    The fewer rows n a value has, the less its covariance is its own: correlations are shrunk by D / (D + n),
    and variances towards the mean ones of all values, as if by one more row. A value that does not occur has
    the Gaussian of all codes.
    """
    flat = codes.reshape(codes.shape[0], -1)
    D = flat.shape[1]
    one = jax.nn.one_hot(values, classes).T
    # A value without rows: all rows count.
    one = jnp.where(one.sum(1, keepdims=True) > 0, one, 1.0)
    mean = one @ flat / one.sum(1, keepdims=True)
    within = jnp.square(flat - mean[values]).mean(0)
    floor = FLOOR * within.mean() + 1e-12

    def of(weight: Float[Array, " N"], mean: Float[Array, " D"]) -> jax.Array:
        n = weight.sum()
        gap = flat - mean[None]
        variance = (weight @ jnp.square(gap) + within) / (n + 1) + floor
        if D > LARGEST:
            return variance
        whole = (gap * weight[:, None]).T @ gap / n
        return n / (D + n) * whole * (1 - jnp.eye(D)) + jnp.diag(variance)

    return Moments(mean, jax.lax.map(lambda value: of(*value), (one, mean)))


def edited(
    codes: Float[Array, "B *Z"],
    found: Moments,
    source: Int[Array, " B"],
    target: Int[Array, " B"],
    strength: float = 1.0,
) -> Float[Array, "B *Z"]:
    """Move codes from one value of an attribute to another by optimal transport between their Gaussians.

    The means differ by the attribute vector of White 2016 (arXiv:1609.04468, sec. 3). What distinguishes a
    row from the mean of its value, its style, is mapped by the linear map that takes one covariance to the
    other with the least movement (Peyre & Cuturi 2019, arXiv:1803.00567, remark 2.31):

        A = S^{-1/2} (S^{1/2} T S^{1/2})^{1/2} S^{-1/2}

    Args:
      source, target: the value that each row has, and the one that it should have.
      strength: 1 for the whole way.
    """
    flat = codes.reshape(codes.shape[0], -1)
    gap = flat - found.mean[source]
    if found.covariance.ndim == 2:
        style = gap * jnp.sqrt(found.covariance[target] / found.covariance[source])
    else:
        # One row after another: the maps of all rows would take B D^2 values.
        map_of = lambda s, t: _transport(found.covariance[s], found.covariance[t])
        style = jax.lax.map(lambda row: map_of(row[0], row[1]) @ row[2], (source, target, gap))
    moved = found.mean[target] + style
    # A row that has the value already stays as it is.
    moved = jnp.where((source == target)[:, None], flat, moved)
    return (flat + strength * (moved - flat)).reshape(codes.shape)


def _transport(s: Float[Array, "D D"], t: Float[Array, "D D"]) -> Float[Array, "D D"]:
    root = _power(s, 0.5)
    inverse = _power(s, -0.5)
    return inverse @ _power(root @ t @ root, 0.5) @ inverse


def _power(s: Float[Array, "D D"], exponent: float) -> Float[Array, "D D"]:
    """Return the power of a positive definite matrix."""
    values, vectors = jnp.linalg.eigh((s + s.T) / 2)
    values = jnp.maximum(values, 1e-7 * values[-1])
    return (vectors * values[None] ** exponent) @ vectors.T
