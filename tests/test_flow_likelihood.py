"""The density of a probability-flow ODE on a mixture of Gaussians, where it is known."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genjax.functional import schedules
from genjax.functional.flow_likelihood import log_density

MEANS = np.array([[-1.0, 0.4], [0.5, -0.3]], np.float32)
SPREAD = 0.4


def denoise(path: schedules.Path, x: jax.Array, t: jax.Array) -> jax.Array:
    """E[x_0 | x_t] of two Gaussians in the plane with equal shares."""
    alpha, sigma = (c[:, None, None] for c in path(t))
    variance = alpha**2 * SPREAD**2 + sigma**2
    far = x[:, None] - alpha * MEANS[None]
    weights = jax.nn.softmax(-0.5 * (far**2 / variance).sum(-1), -1)
    each = MEANS[None] + alpha * SPREAD**2 / variance * far
    return (weights[..., None] * each).sum(1)


@pytest.mark.parametrize("name", ["vp", "straight", "edm"])
@pytest.mark.parametrize("probes", [1, 32, None])
def test_it_is_the_true_density(name: schedules.Schedule, probes: int | None):
    path = schedules.chain(name, 1000)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    x = (MEANS[label] + SPREAD * rng.normal(size=(400, 2))).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    ends = (2e-4, 0.9995) if name != "edm" else (1e-3, 1.0)
    found = np.asarray(
        jax.jit(lambda x: log_density(functools.partial(denoise, path), path, x, keys, ends, 100, probes))(
            jnp.asarray(x)
        )
    )
    each = [norm.logpdf(x, m, SPREAD).sum(1) for m in MEANS]
    truth = np.logaddexp(*each) - np.log(2)
    gap = found - truth
    if probes is None:
        np.testing.assert_allclose(found, truth, atol=1e-2)
    else:
        # Hutchinson's estimate is unbiased, and its error falls with the number of vectors.
        assert abs(gap.mean()) < 4 * gap.std() / 20
        assert gap.std() < 0.8 / np.sqrt(probes)


def test_a_gaussian_is_exact_in_every_row():
    """One vector suffices where the derivative is a multiple of the identity."""
    path = schedules.chain("vp", 1000)

    def gaussian(x: jax.Array, t: jax.Array) -> jax.Array:
        alpha, sigma = (c[:, None] for c in path(t))
        return alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x

    x = jnp.linspace(-1.0, 1.0, 9)[:, None] * jnp.ones((1, 3))
    keys = jax.random.split(jax.random.key(0), 9)
    found = jax.jit(lambda x: log_density(gaussian, path, x, keys, (2e-4, 1.0), 200))(x)
    np.testing.assert_allclose(found, norm.logpdf(np.asarray(x), 0, 0.5).sum(1), atol=1e-2)
