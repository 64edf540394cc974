"""Compute what a diffusion that needs few steps learns from: targets of a teacher, and of itself.

`denoise` is (x_t, t_B) -> E[x_0 | x_t]; times are one per row.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.functional.diffusion import spread, to_noise
from genjax.functional.schedules import Path

Denoise = Callable[[jax.Array, jax.Array], jax.Array]


def ddim_step(
    denoise: Denoise, path: Path, x: Float[Array, "B *shape"], t: Float[Array, " B"], s: Float[Array, " B"]
) -> Float[Array, "B *shape"]:
    """Return x at the earlier times s (Song et al. 2021, arXiv:2010.02502, eq. 12, without noise)."""
    x_0 = denoise(x, t)
    alpha, sigma = (spread(c, x) for c in path(s))
    return alpha * x_0 + sigma * to_noise(x_0, x, path(t))


def halved(
    teacher: Denoise, path: Path, x: Float[Array, "B *shape"], t: Float[Array, " B"], s: Float[Array, " B"]
) -> Float[Array, "B *shape"]:
    """Return the estimate of x_0 whose one step from t to s ends where two steps of the teacher do.

    Salimans & Ho 2022 (arXiv:2202.00512), algorithm 2 and app. G.
    """
    middle = 0.5 * (t + s)
    end = ddim_step(teacher, path, ddim_step(teacher, path, x, t, middle), middle, s)
    alpha_t, sigma_t = (spread(c, x) for c in path(t))
    alpha_s, sigma_s = (spread(c, x) for c in path(s))
    ratio = sigma_s / sigma_t
    return (end - ratio * x) / (alpha_s - ratio * alpha_t)


def pseudo_huber(a: Float[Array, "B *shape"], b: Float[Array, "B *shape"]) -> Float[Array, " B"]:
    """Return sqrt(|a - b|^2 + c^2) - c with c = 0.00054 sqrt(D).

    Song & Dhariwal 2023 (arXiv:2310.14189), eq. 7 and sec. 3.3.
    """
    squared = jnp.square(a - b).reshape(a.shape[0], -1).sum(1)
    c = 0.00054 * a[0].size ** 0.5
    return jnp.sqrt(squared + c**2) - c
