"""Compare the aggregate posterior, the mean of q(z | x) over the data, with the prior, from one batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.functional import likelihoods


class Parts(NamedTuple):
    """Hold the three parts of the KL term, per row, in nats (Chen et al. 2018, arXiv:1802.04942, eq. 2).

    Attributes:
      information: log q(z | x) - log q(z), whose mean is the mutual information of x and z.
      correlation: log q(z) - sum_j log q(z_j), whose mean is the total correlation.
      dimensions: sum_j log q(z_j) - log p(z_j).
    """

    information: Float[Array, " B"]
    correlation: Float[Array, " B"]
    dimensions: Float[Array, " B"]


def kl_parts(
    z: Float[Array, "B Z"],
    mean: Float[Array, "B Z"],
    log_std: Float[Array, "B Z"],
    others_mean: Float[Array, "N Z"],
    others_log_std: Float[Array, "N Z"],
    mask: Float[Array, " N"],
    rows: int,
) -> Parts:
    """Estimate the parts by minibatch-weighted sampling (Chen et al. 2018, app. C.1).

    The prior is standard normal. The estimate of log q(z) is the log of the mean over the batch of
    q(z | x_m), less the log of the number of rows.

    Args:
      z: draws of q(z | x), one per row.
      others_mean, others_log_std: of q(z | x_m) for every row of the global batch.
      mask: 0 for padding rows of the global batch.
      rows: of the data set.
    """
    log_q_given = likelihoods.normal(mean, log_std, z).sum(-1)
    log_p = likelihoods.normal(jnp.zeros_like(z), jnp.zeros_like(z), z).sum(-1)
    each = likelihoods.normal(others_mean[None], others_log_std[None], z[:, None])
    weight = jnp.where(mask > 0, 0.0, -jnp.inf)
    count = jnp.log(jnp.maximum(mask.sum(), 1.0) * rows)
    log_q = jax.nn.logsumexp(each.sum(-1) + weight[None], axis=1) - count
    log_q_each = (jax.nn.logsumexp(each + weight[None, :, None], axis=1) - count).sum(-1)
    return Parts(log_q_given - log_q, log_q - log_q_each, log_q_each - log_p)


def mmd(
    x: Float[Array, "N Z"], y: Float[Array, "N Z"], mask: Float[Array, " N"], scales: tuple[float, ...]
) -> Float[Array, ""]:
    """Estimate the squared maximum mean discrepancy of two samples without bias (Gretton et al. 2012, eq. 3).

    The kernel is a sum of inverse multiquadratics C / (C + |x - y|^2) with C = 2 Z scale (Tolstikhin et al.
    2018, arXiv:1711.01558, sec. 4), for prior draws y of unit variance.

    Args:
      mask: 0 for rows that do not count.
    """
    n = mask.sum()
    pairs = mask[:, None] * mask[None]
    apart = pairs * (1.0 - jnp.eye(mask.shape[0]))

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        squared = jnp.square(a[:, None] - b[None]).sum(-1)
        base = 2.0 * a.shape[-1]
        each = [base * s / (base * s + squared) for s in scales]
        return jnp.stack(each).sum(0)

    within = apart / jnp.maximum(n * (n - 1), 1.0)
    between = pairs / jnp.maximum(n * n, 1.0)
    return (kernel(x, x) * within + kernel(y, y) * within - 2.0 * kernel(x, y) * between).sum()


def gaussian_entropy(log_std: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Compute the entropy of N(., std^2), elementwise."""
    return log_std + 0.5 * (1.0 + math.log(2 * math.pi))
