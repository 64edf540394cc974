"""Define methods that remember nothing: DDPM, DDIM, Euler, Heun, and the sampling of consistency models."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from genjax.functional.diffusion import Variance, posterior_coefficients, step_variance, to_noise
from genjax.functional.schedules import Path, time_of
from genjax.sampling.methods.base import Method, Point, none


def ddim(eta: float = 0.0) -> Method:
    """Return the DDIM method (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16).

    Args:
      eta: 0 is deterministic, 1 has the variance of DDPM's posterior.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        x_0 = denoise(x, now.t)
        epsilon = to_noise(x_0, x, now.at)
        if eta == 0:
            return then.alpha * x_0 + then.sigma * epsilon, memory
        variance = eta**2 * posterior_coefficients(then.at, now.at)[2]
        kept = jnp.sqrt(jnp.maximum(then.sigma**2 - variance, 0.0))
        return then.alpha * x_0 + kept * epsilon + jnp.sqrt(variance) * noise(), memory

    return Method(none, step)


def ddpm(variance: Variance = "small") -> Method:
    """Return ancestral sampling along any sub-sequence of times (Ho et al. 2020, algorithm 2).

    Args:
      variance: "small" or "large" (see functional.diffusion.step_variance), or "learned", for which `denoise`
        returns E[x_0 | x_t] and the share v. The last step adds no noise.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        of_x, of_data, _ = posterior_coefficients(then.at, now.at)
        found = denoise(x, now.t)
        x_0, share = found if variance == "learned" else (found, None)
        mean = of_x * x + of_data * x_0
        v = jnp.where(then.sigma > 0, step_variance(then.at, now.at, variance, share), 0.0)
        return mean + jnp.sqrt(v) * noise(), memory

    return Method(none, step)


def euler() -> Method:
    """Return Euler's rule on the probability-flow ODE in (x / alpha, sigma / alpha), EDM's coordinates.

    It is DDIM without noise: x' / alpha' = x / alpha + (sigma' / alpha' - sigma / alpha) epsilon (Karras et
    al. 2022, arXiv:2206.00364, sec. 3).
    """
    return ddim()


def euler_ancestral() -> Method:
    """Return Euler's rule with a part of the noise drawn anew, as in k-diffusion.

    A step leads down to sigma_down and back up by noise of sigma_up, where sigma_up^2 is sigma'^2 (sigma^2 -
    sigma'^2) / sigma^2 in EDM's coordinates. It is DDIM with eta = 1.
    """
    return ddim(1.0)


def heun(
    path: Path | None = None, churn: float = 0.0, low: float = 0.0, high: float = math.inf, extra: float = 1.0
) -> Method:
    """Return Heun's rule, of second order (Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2).

    Steps from a time without signal, and to the last time without noise, are Euler's.

    Args:
      path: of the denoiser; needed if `churn` is positive.
      churn: S_churn: noise that is added before a step, which raises sigma by at most churn / steps.
      low, high: S_tmin and S_tmax, sigma / alpha between which noise is added.
      extra: S_noise, standard deviation of that noise.

    Raises:
      ValueError: churn without a path.
    """
    if churn and path is None:
        raise ValueError("churn needs the path of the denoiser")

    def step(denoise, x, memory, now: Point, then: Point, noise):
        if churn:
            assert path is not None
            x, now = _churned(path, x, now, noise)
        x_0 = denoise(x, now.t)
        first = to_noise(x_0, x, now.at)
        plain = then.alpha * x_0 + then.sigma * first

        def corrected() -> jax.Array:
            second = to_noise(denoise(plain, then.t), plain, then.at)
            # x / alpha changes by the mean slope times the change of sigma / alpha; Euler's by `first`.
            return plain + then.alpha * (then.ratio - now.ratio) * 0.5 * (second - first)

        inner = (then.sigma > 0) & (now.alpha > 0)
        return jax.lax.cond(inner, corrected, lambda: plain), memory

    def _churned(path: Path, x: jax.Array, now: Point, noise) -> tuple[jax.Array, Point]:
        steps = jnp.asarray(now.index) + jnp.asarray(now.left)
        inside = (now.ratio >= low) & (now.ratio <= high)
        gamma = jnp.where(inside, jnp.minimum(churn / steps, math.sqrt(2.0) - 1.0), 0.0)
        ratio = now.ratio * (1.0 + gamma)
        t = jnp.where(gamma > 0, time_of(path, -jnp.log(ratio)), now.t)
        alpha, sigma = path(t)
        added = jnp.sqrt(jnp.maximum(ratio**2 - now.ratio**2, 0.0))
        moved = alpha * (x / now.alpha + extra * added * noise())
        changed = gamma > 0
        point = now._replace(
            t=t, alpha=jnp.where(changed, alpha, now.alpha), sigma=jnp.where(changed, sigma, now.sigma)
        )
        return jnp.where(changed, moved, x), point

    return Method(none, step, lambda steps: max(2 * steps - 1, 1))


def consistency() -> Method:
    """Return the sampling of a consistency model in several steps: estimate x_0, then add fresh noise.

    Song et al. 2023 (arXiv:2303.01469), algorithm 1.
    """

    def step(denoise, x, memory, now: Point, then: Point, noise):
        return then.alpha * denoise(x, now.t) + then.sigma * noise(), memory

    return Method(none, step)
