"""Compute adversarial losses of logits, and penalties on the gradient of a critic, per row.

A loss is a pair of functions of the critic's logits on real rows and on generated ones. Only the relativistic
one compares them: row n is paired with generated row n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Tree
from genjax.functional.reductions import sum_row

Loss = Literal["non_saturating", "saturating", "least_squares", "hinge", "wasserstein", "relativistic"]
Logit = Callable[[Float[Array, "B *shape"]], Float[Array, " P"]]
"""A critic with everything but its input given; it may judge several rows at once."""


def critic(loss: Loss, real: Float[Array, " B"], fake: Float[Array, " B"]) -> Float[Array, " B"]:
    """Return what the critic minimises.

    "non_saturating" and "saturating": Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1, D = sigmoid(logit);
    "least_squares": Mao et al. 2017 (arXiv:1611.04076), eq. 9; "hinge": Lim & Ye 2017 (arXiv:1705.02894);
    "wasserstein": Arjovsky et al. 2017 (arXiv:1701.07875), eq. 2; "relativistic": the pairing loss of
    Jolicoeur-Martineau 2019 (arXiv:1807.00734) with f(t) = -log(1 + exp(-t)) (Huang et al. 2024,
    arXiv:2501.05441, eq. 2).
    """
    # With logit a, -log sigmoid(a) = softplus(-a) and -log(1 - sigmoid(a)) = softplus(a).
    if loss in ("non_saturating", "saturating"):
        return jax.nn.softplus(-real) + jax.nn.softplus(fake)
    if loss == "least_squares":
        return 0.5 * (jnp.square(real - 1.0) + jnp.square(fake))
    if loss == "hinge":
        return jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake)
    return fake - real if loss == "wasserstein" else jax.nn.softplus(fake - real)


def generator(loss: Loss, real: Float[Array, " B"], fake: Float[Array, " B"]) -> Float[Array, " B"]:
    """Return what the generator minimises; only "relativistic" reads the logits of real rows."""
    if loss == "non_saturating":
        return jax.nn.softplus(-fake)
    if loss == "saturating":
        return -jax.nn.softplus(fake)
    if loss == "least_squares":
        return 0.5 * jnp.square(fake - 1.0)
    return jax.nn.softplus(real - fake) if loss == "relativistic" else -fake


def squared_gradient(logit: Logit, x: Float[Array, "B *shape"]) -> Float[Array, " B"]:
    """Return |grad D(x)|^2 per row.

    Half of it, times gamma, is R1 on real rows (Mescheder et al. 2018, arXiv:1801.04406, eq. 9) and R2 on
    generated ones (eq. 10).
    """
    # The gradient of the sum over rows: no row's logit depends on another row.
    return sum_row(jnp.square(jax.grad(lambda v: logit(v).sum())(x)))


def gradient_penalty(
    logit: Logit,
    real: Float[Array, "B *shape"],
    fake: Float[Array, "B *shape"],
    share: Float[Array, " B"],
    joined: Callable[[Float[Array, " B"]], Float[Array, " P"]] = lambda squares: squares,
) -> Float[Array, " P"]:
    """Return (|grad D(x)| - 1)^2 at an x between the rows of each pair.

    Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3.

    Args:
      share: of the real row, in [0, 1] (algorithm 1, line 6).
      joined: sums the squared norms of rows that are judged together.
    """
    share = share.reshape(-1, *(1,) * (real.ndim - 1))
    x = share * real + (1.0 - share) * fake
    # The root's derivative at 0 is infinite.
    return jnp.square(jnp.sqrt(joined(squared_gradient(logit, x)) + 1e-12) - 1.0)


def off_orthogonal(params: Tree) -> Float[Array, ""]:
    """Return the sum over kernels W of |W^T W * (1 - I)|^2: the columns' inner products with each other.

    Brock et al. 2019 (arXiv:1809.11096), eq. 3; of leaves named kernel, but for the embedding of the class
    ("class"), as in the authors' code.
    """
    total = jnp.float32(0.0)
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        if kernel.ndim > 1 and name[-1] == "kernel" and name[0] != "class":
            w = kernel.reshape(-1, kernel.shape[-1])
            gram = w.T @ w
            total = total + jnp.square(gram).sum() - jnp.square(jnp.diag(gram)).sum()
    return total
