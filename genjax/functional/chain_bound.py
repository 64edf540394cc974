"""Bound the negative log-likelihood of data along a discrete chain of noises, in nats per row.

L_T + sum_{i=2}^{T} L_{i-1} + L_0 of Ho et al. 2020 (arXiv:2006.11239), eq. 5. An `estimate` is a function
(i, n) -> (E[x_0 | x_i], v) of the step of each row (B int32), with x_i drawn from the noise of stream n; v is
the share of a learned variance, or None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from genjax.core import Keys
from genjax.functional import diffusion as gaussian
from genjax.functional import likelihoods, noise
from genjax.functional.divergences import kl_normal
from genjax.functional.schedules import Path

Estimate = Callable[..., tuple[jax.Array, jax.Array | None]]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Define a chain.

    Attributes:
      path: t in [0, 1] -> (alpha, sigma).
      steps: T.
      variance: of the reverse steps: see functional.diffusion.step_variance.
    """

    path: Path
    steps: int
    variance: gaussian.Variance

    def prior_term(self, x_0: Float[Array, "B *shape"]) -> Float[Array, " B"]:
        """Compute L_T = KL(q(x_T | x_0) || N(0, alpha_T^2 + sigma_T^2)), of variance 1 if it is preserved."""
        alpha, sigma = self.path(jnp.ones(()))
        return _kl(alpha * x_0, sigma**2, jnp.zeros_like(x_0), alpha**2 + sigma**2)

    def decoder_term(
        self, x: Shaped[Array, "B *shape"], estimate: Estimate, levels: int | None
    ) -> Float[Array, " B"]:
        """Compute -L_0 = log p(x_0 | x_1): of the levels of a quantised image (eq. 13), or of real values.

        Args:
          x: the data in their own form.
        """
        mean, share = estimate(jnp.ones(x.shape[:1], jnp.int32), 0)
        return self.reconstruction(x, mean, share, levels)

    def reconstruction(
        self, x: Shaped[Array, "B *shape"], mean: Array, share: Array | None, levels: int | None
    ) -> Float[Array, " B"]:
        """Compute log p(x_0 | x_1) for an estimate of x_0 from x_1."""
        # The posterior of the first step has no variance: "small" takes the second's (Nichol & Dhariwal
        # 2021, sec. 3.1).
        first = 0 if self.variance == "large" else 1
        s = self.path(jnp.asarray(first / self.steps))
        t = self.path(jnp.asarray((first + 1) / self.steps))
        if share is None:
            variance = gaussian.step_variance(s, t, self.variance)
        else:
            # Between the second step's posterior and the first step's own noise.
            ends = self.path(jnp.asarray(0.0)), self.path(jnp.asarray(1 / self.steps))
            small = jnp.log(gaussian.step_variance(s, t, "small"))
            large = jnp.log(gaussian.step_variance(*ends, "large"))
            variance = jnp.exp(share * large + (1.0 - share) * small)
        log_std = jnp.broadcast_to(0.5 * jnp.log(gaussian.spread(variance, mean)), mean.shape)
        if levels:
            log_p = likelihoods.discretised_normal(mean, log_std, x, levels)
        else:
            log_p = likelihoods.normal(mean, log_std, x.astype(jnp.float32))
        return log_p.reshape(mean.shape[0], -1).sum(1)

    def middle_terms(
        self, x_0: Float[Array, "B *shape"], estimate: Estimate, keys: Keys, terms: int | None
    ) -> Float[Array, " B"]:
        """Estimate the sum of KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i)) over i = 2 .. T.

        Args:
          keys: for the random start of each row.
          terms: how many of the T - 1 are evaluated, evenly spaced; None for all.
        """
        T = self.steps
        terms = T - 1 if terms is None else min(terms, T - 1)
        stride = (T - 1) / terms
        rows = x_0.shape[0]
        start = jnp.zeros((rows,)) if terms == T - 1 else noise.uniform(keys)

        def add(total: Array, k: Array) -> tuple[Array, None]:
            i = jnp.minimum(2 + jnp.floor((k + start) * stride).astype(jnp.int32), T)
            mean, share = estimate(i, k + 2)
            return total + self.middle(x_0, i, mean, share), None

        summed, _ = jax.lax.scan(add, jnp.zeros((rows,)), jnp.arange(terms))
        return summed * stride

    def middle(
        self, x_0: Float[Array, "B *shape"], i: Array, mean: Float[Array, "B *shape"], share: Array | None
    ) -> Float[Array, " B"]:
        """Compute KL(q(x_{i-1} | x_i, x_0) || p(x_{i-1} | x_i)) for estimates of x_0, at steps i >= 2."""
        s = self.path((i - 1) / self.steps)
        t = self.path(i / self.steps)
        _, of_data, v = gaussian.posterior_coefficients(s, t)
        # Posterior and model have the same part of x_t: only their estimates of x_0 differ.
        of_data = gaussian.spread(of_data, x_0)
        variance = gaussian.step_variance(s, t, self.variance, share)
        return _kl(of_data * x_0, v, of_data * mean, variance)


def _kl(mean_q: Array, variance_q: Array, mean_p: Array, variance_p: Array) -> Float[Array, " B"]:
    """Compute the nats of each row from one normal to the other."""
    log_std_q = 0.5 * jnp.log(gaussian.spread(variance_q, mean_q))
    log_std_p = 0.5 * jnp.log(gaussian.spread(variance_p, mean_q))
    return kl_normal(mean_q, log_std_q, mean_p, log_std_p).reshape(mean_q.shape[0], -1).sum(1)
