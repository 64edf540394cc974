"""Reconstruct an average of the weights after training, from averages that were saved along the way.

Karras et al. 2024 (arXiv:2312.02696), sec. 3 and app. C. The average with the exponent g weighs the weights
of step t by t^g. Snapshots of two exponents at many steps span a space that nearly contains those of others;
the one wanted is their least-squares combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from genjax.core import Tree

PREFIX = "sigma_rel:"
"""Begins the name of an average that is reconstructed, as in "sigma_rel:0.1"."""


class Profile(NamedTuple):
    """Describe an average: the weights of step t <= `step` count in proportion to t^exponent."""

    step: float
    exponent: float


def exponent_of(sigma_rel: float) -> float:
    """Return the exponent of the profile whose standard deviation is this share of the training (eq. 6).

    Raises:
      ValueError: the share is not in (0, 0.2887): a constant profile has 12^-0.5.
    """
    if not 0 < sigma_rel < 12**-0.5:
        raise ValueError(f"sigma_rel={sigma_rel} must lie between 0 and 0.2887")
    square = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - square, 12.0 - square]).real.max())


def product(a: Profile, b: Profile) -> float:
    """Return the integral of the product of two profiles (app. C.2)."""
    ratio = a.step / b.step
    power = ratio ** (b.exponent if a.step < b.step else -a.exponent)
    size = (a.exponent + 1) * (b.exponent + 1)
    return size * power / ((a.exponent + b.exponent + 1) * max(a.step, b.step))


def combination(saved: Sequence[Profile], wanted: Profile) -> Float[np.ndarray, " N"]:
    """Return the weights of the saved averages whose sum is nearest to the wanted one (algorithm 3)."""
    inner = np.array([[product(a, b) for b in saved] for a in saved])
    with_wanted = np.array([product(a, wanted) for a in saved])
    return np.linalg.lstsq(inner, with_wanted, rcond=1e-12)[0]


def combined(trees: Sequence[Tree], weights: Float[np.ndarray, " N"]) -> Tree:
    """Return the weighted sum of trees of arrays, in their types."""

    def total(*leaves: jax.Array) -> np.ndarray:
        found = sum(w * np.asarray(x, np.float64) for w, x in zip(weights, leaves, strict=True))
        return np.asarray(found).astype(np.asarray(leaves[0]).dtype)

    return jax.tree.map(total, *trees)
