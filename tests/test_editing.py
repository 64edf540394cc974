"""Edits by a diffusion of Gaussian data, for which conditional distributions are known."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Denoiser, Variables
from genjax.functional import schedules
from genjax.sampling import diffusion as sampling
from genjax.sampling import editing

COV = np.array([[1.0, 0.8], [0.8, 1.0]], np.float32)
PATH = schedules.chain("vp", 1000)


def denoise(variables, x, t, prompt):
    """E[x_0 | x_t] for x_0 ~ N(0, COV)."""
    alpha, sigma = (c[:, None] for c in PATH(t))
    variances, basis = (jnp.asarray(a) for a in np.linalg.eigh(COV))
    gain = alpha * variances[None] / (alpha**2 * variances[None] + sigma**2)
    return (gain * (x @ basis)) @ basis.T


DENOISER = Denoiser(lambda variables: PATH, denoise)


def draw(count: int = 4000, steps: int = 60, **how) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    times = schedules.times(steps, 1000)
    how = {"sampler": "ddpm", **how}
    run = jax.jit(
        lambda k: sampling.sample(DENOISER, Variables(), k, {}, how.pop("times", times), shape=(2,), **how)
    )
    return np.asarray(run(keys))


@pytest.mark.parametrize("repeats", [1, 8])
def test_the_known_part_is_exact_and_the_rest_fits_it(repeats: int):
    known = jnp.broadcast_to(jnp.asarray([[1.5, 9.0]]), (4000, 2))
    mask = jnp.broadcast_to(jnp.asarray([[1.0, 0.0]]), (4000, 2))
    change = lambda how, path: editing.keeping(how, known, mask, repeats)
    x = draw(change=change)
    np.testing.assert_array_equal(x[:, 0], 1.5)
    # x_2 given x_1 = 1.5 is N(0.8 * 1.5, 1 - 0.64); without repeats the rest lags behind the known part.
    gap = abs(x[:, 1].mean() - 1.2)
    assert gap < (0.08 if repeats > 1 else 0.6)
    if repeats == 1:
        assert gap > 0.08


def test_a_measurement_is_met():
    change = lambda how, path: editing.measured(how, lambda x: jnp.abs(x.sum(1) - 2.0), 0.1)
    plain = draw().sum(1)
    x = draw(change=change, steps=200).sum(1)
    assert abs(x.mean() - 2.0) < 0.2
    assert x.std() < 0.3 * plain.std()


def test_steering_draws_from_the_product():
    """p(x) N(y; x_1, 1): the mean of x_1 is y / 2, that of x_2 0.8 times it."""
    log_p = lambda x: -0.5 * jnp.square(x[:, 0] - 1.0)
    change = lambda how, path: editing.steered(how, path, log_p)
    x = draw(change=change, steps=200)
    # log p(y | E[x_0 | x_t]) leaves out the variance of x_0 given x_t: the pull is somewhat too strong.
    assert 0.45 < x[:, 0].mean() < 0.75
    np.testing.assert_allclose(x[:, 1].mean() / x[:, 0].mean(), 0.8, atol=0.1)
    assert 0.3 < x[:, 0].var() < 0.7


def test_what_begins_from_rows_stays_near_them_the_earlier_it_begins():
    begin = jnp.broadcast_to(jnp.asarray([[1.0, 0.6]]), (4000, 2))
    gaps = []
    for strength in (0.05, 0.3, 0.9):
        times = schedules.times(100, 1000)
        x = draw(times=times[times <= strength], begin=begin, sampler="ddim")
        gaps.append(np.abs(x - np.asarray(begin)).mean())
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[0] < 0.25
    # From nearly nothing but noise the draws are those of the data.
    assert abs(np.cov(x.T)[0, 1] - 0.8) < 0.1


def test_ddim_is_inverted_by_running_it_backwards():
    path = PATH
    estimate = functools.partial(denoise, None, prompt={})
    x = jnp.asarray(np.random.default_rng(0).multivariate_normal([0, 0], COV, 50), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 50)
    times = schedules.times(400, 1000)[:-1]
    how = sampling.METHODS["ddim"]()
    ddim = jax.jit(lambda x, times: sampling.integrate(estimate, path, x, keys, times, how))
    noise = ddim(x, jnp.asarray(times[::-1]))
    # The noise of data is standard normal, and the way back leads to the data.
    np.testing.assert_allclose(np.cov(np.asarray(noise).T), np.eye(2), atol=0.35)
    np.testing.assert_allclose(ddim(noise, jnp.asarray(times)), x, atol=0.04)
