"""Define noise schedules: paths t -> (alpha, sigma) with x_t = alpha(t) x_0 + sigma(t) noise, t in [0, 1].

A path may be any pair of functions. Those here are variance preserving (alpha^2 + sigma^2 = 1), except for
the straight path and those of exploding variance (alpha = 1). Time 0 is data and time 1 is (nearly) noise.
The discrete chains of DDPM are the paths of `discrete`, which pass exactly through the chain's points at t =
i / T, so that one sampler works for chains and continuous paths.

Each variance-preserving path is computed from L(t) = -log alpha^2(t): sigma^2 = -expm1(-L) keeps its
precision near data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.errors import ConfigError

Path: TypeAlias = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""t -> (alpha, sigma), elementwise."""


def _preserving(L: Float[Array, "*t"]) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    return jnp.exp(-0.5 * L), jnp.sqrt(-jnp.expm1(-L))


def linear(
    t: Float[Array, "*t"], beta_min: float = 0.1, beta_max: float = 20.0
) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """Return the continuous limit of DDPM's schedule: beta(t) grows linearly from beta_min to beta_max.

    Song et al. 2021 (arXiv:2011.13456), eq. 33: log alpha^2 = -(beta_min t + (beta_max - beta_min) t^2 / 2).
    """
    return _preserving(t * (beta_min + 0.5 * (beta_max - beta_min) * t))


def cosine(t: Float[Array, "*t"], offset: float = 0.008) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """Return the cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).

    alpha^2(t) = f(t) / f(0) with f(t) = cos^2((t + s) / (1 + s) pi / 2). alpha(1) is 0: x_1 contains no
    signal, and a prediction of its noise carries no information about x_0.
    """
    angle = lambda t: (t + offset) / (1 + offset) * (math.pi / 2)
    # max, since cos(pi / 2) is -4e-8 in float32.
    alpha = jnp.maximum(jnp.cos(angle(t)), 0.0) / math.cos(angle(0.0))
    # sin^2(a) - sin^2(b) = sin(a + b) sin(a - b): no cancellation near t = 0.
    variance = jnp.sin(angle(t) + angle(0.0)) * jnp.sin(t / (1 + offset) * (math.pi / 2))
    return alpha, jnp.sqrt(jnp.maximum(variance, 0.0)) / math.cos(angle(0.0))


def straight(t: Float[Array, "*t"]) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """Return the path of flow matching, alpha = 1 - t and sigma = t: x_t is linear in t.

    Liu et al. 2023 (arXiv:2209.03003, sec. 2.1), with time 1 at the noise. A step of DDIM along it is a step
    of Euler's method on dx/dt = noise - x_0.
    """
    return 1.0 - t, 1.0 * t


def exploding(
    t: Float[Array, "*t"], smallest: float = 0.01, largest: float = 50.0
) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """Return the path of exploding variance: alpha = 1, sigma grows geometrically, and is 0 at t = 0.

    Song et al. 2021 (arXiv:2011.13456), eq. 31: sigma(t) = sigma_min (sigma_max / sigma_min)^t.
    """
    sigma = smallest * (largest / smallest) ** t
    return jnp.ones_like(t), jnp.where(t > 0, sigma, 0.0)


def edm(
    t: Float[Array, "*t"], smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0
) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """Return EDM's path: alpha = 1, and sigma(t)^(1/rho) is linear in t; 0 at t = 0.

    Karras et al. 2022 (arXiv:2206.00364), eq. 5, as a function of a continuous t.
    """
    low = smallest ** (1.0 / rho)
    high = largest ** (1.0 / rho)
    return jnp.ones_like(t), jnp.where(t > 0, (low + t * (high - low)) ** rho, 0.0)


def linear_betas(steps: int = 1000, largest: float = 0.999) -> np.ndarray:
    """Return DDPM's betas (Ho et al. 2020, sec. 4), float64 (T,): from 1e-4 to 0.02 at T = 1000.

    For another T they are scaled by 1000 / T, so that the chain still ends in noise (Nichol & Dhariwal
    2021, sec. 3), and limited to `largest`.
    """
    scale = 1000.0 / steps
    return np.minimum(np.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=np.float64), largest)


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """Return the betas of the cosine schedule, float64 (T,), at most `largest` (Nichol & Dhariwal 2021)."""
    t = np.arange(steps + 1, dtype=np.float64) / steps
    alpha_bar = np.cos((t + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], largest)


def discrete(betas: np.ndarray) -> Path:
    """Return the path of a discrete chain q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i).

    Args:
      betas: (T,), of steps 1 to T.

    Returns:
      A path with alpha^2(i / T) = prod_{j <= i} (1 - beta_j), log-linear in alpha^2 in between, and no noise
      at t = 0.

    Raises:
      ValueError: a beta is outside (0, 1).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not np.all((betas > 0) & (betas < 1)):
        raise ValueError("betas must be one row of numbers strictly between 0 and 1")
    T = len(betas)
    L = np.concatenate([[0.0], np.cumsum(-np.log1p(-betas))]).astype(np.float32)

    def path(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _preserving(jnp.interp(t * T, jnp.arange(T + 1, dtype=jnp.float32), L))

    return path


BETAS: dict[str, Callable[[int], np.ndarray]] = {"linear": linear_betas, "cosine": cosine_betas}


Schedule = Literal["linear", "cosine", "straight", "vp", "exploding", "edm"]
CONTINUOUS: dict[str, Path] = {"straight": straight, "vp": linear, "exploding": exploding, "edm": edm}


def chain(name: Schedule, steps: int) -> Path:
    """Return a path by name: of the betas of a discrete chain of `steps` steps, or a continuous one."""
    return CONTINUOUS[name] if name in CONTINUOUS else discrete(BETAS[name](steps))


def shifted(t: Float[Array, "*t"] | np.ndarray, shift: float) -> Float[Array, "*t"] | np.ndarray:
    """Return s t / (1 + (s - 1) t), which keeps 0 and 1 (Esser et al. 2024, arXiv:2403.03206, eq. 23)."""
    return t if shift == 1 else shift * t / (1.0 + (shift - 1.0) * t)


def log_snr(alpha: Float[Array, "*t"], sigma: Float[Array, "*t"]) -> Float[Array, "*t"]:
    """Compute log(alpha^2 / sigma^2), which decreases with time; infinite without noise."""
    return 2.0 * (jnp.log(alpha) - jnp.log(sigma))


def time_of(path: Path, half_log_snr: Float[Array, "*t"], halvings: int = 40) -> Float[Array, "*t"]:
    """Return the t in [0, 1] at which log(alpha / sigma) has this value, by bisection; outside, the end.

    log(alpha / sigma) must decrease with t. A path of any form has an inverse so.
    """
    low = jnp.zeros_like(half_log_snr)
    high = jnp.ones_like(half_log_snr)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        alpha, sigma = path(middle)
        later = jnp.log(alpha) - jnp.log(sigma) > half_log_snr
        return jnp.where(later, middle, low), jnp.where(later, high, middle)

    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return 0.5 * (low + high)


Spacing = Literal["trailing", "leading", "quadratic", "karras", "log_snr"]


def times(
    steps: int, chain: int = 1000, spacing: Spacing = "trailing", path: Path | None = None
) -> np.ndarray:
    """Return decreasing times to sample along: float32 (steps + 1,), ending at 0.

    All but "karras" and "log_snr" are a sub-sequence of the chain's times.

    Args:
      steps: number of transitions; at most `chain`.
      chain: T, the number of steps of the trained chain.
      spacing: "trailing" is even and begins at 1, where the trained chain ends (Lin et al. 2024,
        arXiv:2305.08891, sec. 3.3); "leading" visits 1 + k floor(T / steps), which ends at the first point of
        the chain and begins below 1 (as Nichol & Dhariwal, and diffusers by default);
        "quadratic" is denser near data (Song et al. 2021, arXiv:2010.02502, app. D.2); "karras" is even in
        (sigma / alpha)^(1/7) (Karras et al. 2022, eq. 5), and "log_snr" in log(alpha / sigma), from the last
        time of the chain to its first.
      path: of "karras" and "log_snr".

    Raises:
      ConfigError: steps is not in 1 .. chain, or the spacing is unknown.
    """
    if not 1 <= steps <= chain:
        raise ConfigError(f"steps={steps} along a chain of {chain} steps", f"give 1 to {chain} steps")
    if spacing in ("karras", "log_snr"):
        assert path is not None
        return _even_in_noise(steps, chain, path, 7.0 if spacing == "karras" else None)
    if spacing == "trailing":
        index = np.round(np.arange(steps, 0, -1) * (chain / steps))
    elif spacing == "leading":
        index = 1 + np.arange(steps)[::-1] * (chain // steps)
    elif spacing == "quadratic":
        index = np.linspace(1, np.sqrt(chain), steps)[::-1] ** 2 if steps > 1 else np.array([chain])
        # Near data, rounding may give a point twice: the next free one is taken instead.
        index = np.maximum(np.round(index), np.arange(steps, 0, -1))
    else:
        raise ConfigError(
            f"unknown spacing {spacing!r}", "give trailing, leading, quadratic, karras or log_snr"
        )
    return (np.append(index, 0) / chain).astype(np.float32)


def _even_in_noise(steps: int, chain: int, path: Path, rho: float | None) -> np.ndarray:
    """Return times that are even in (sigma / alpha)^(1/rho), or in its logarithm without rho."""
    with jax.ensure_compile_time_eval():
        # A path that ends without signal has its last finite ratio just before.
        ends = jnp.asarray([1.0, 1.0 / chain], jnp.float32)
        alpha, _ = path(ends)
        ends = jnp.where(alpha > 1e-4, ends, 1.0 - 1.0 / chain)
        alpha, sigma = path(ends)
        first, last = np.asarray(jnp.log(sigma) - jnp.log(alpha), np.float64)
        if rho is None:
            ratio = np.linspace(first, last, steps)
        else:
            ratio = rho * np.log(np.linspace(np.exp(first / rho), np.exp(last / rho), steps))
        found = np.array(time_of(path, jnp.asarray(-ratio, jnp.float32)))
    # Both ends are known exactly; the first is time 1 even where there is no signal.
    found[0] = 1.0
    return np.append(found, 0.0).astype(np.float32)
