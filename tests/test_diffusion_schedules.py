"""Schedules and the Gaussian algebra against the papers' formulas, written out in numpy."""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import schedules

T = 1000


def test_linear_chain_is_ddpms():
    betas = np.linspace(1e-4, 0.02, T)
    np.testing.assert_allclose(schedules.linear_betas(T), betas, rtol=1e-12)
    alpha, sigma = schedules.chain("linear", T)(jnp.arange(1, T + 1) / T)
    alpha_bar = np.cumprod(1 - betas)
    np.testing.assert_allclose(np.square(alpha), alpha_bar, rtol=2e-5)
    np.testing.assert_allclose(np.square(sigma), 1 - alpha_bar, rtol=2e-5)


def test_cosine_chain_is_nichols():
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    i = np.arange(1, T + 1)
    betas = np.clip(1 - f(i / T) / f((i - 1) / T), 0, 0.999)
    np.testing.assert_allclose(schedules.cosine_betas(T), betas, rtol=1e-12)
    alpha, sigma = schedules.cosine(jnp.asarray(i / T, jnp.float32))
    np.testing.assert_allclose(np.square(alpha), f(i / T) / f(0), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(np.square(sigma), 1 - f(i / T) / f(0), rtol=1e-4)


def test_linear_path_is_songs_integral_and_the_limit_of_the_chain():
    t = np.linspace(0.01, 1, 50)
    beta = lambda u: 0.1 + u * (20.0 - 0.1)
    integral = np.array([np.trapezoid(beta(np.linspace(0, u, 2001)), dx=u / 2000) for u in t])
    alpha, sigma = schedules.linear(jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(np.square(alpha), np.exp(-integral), rtol=1e-4)
    np.testing.assert_allclose(np.square(sigma), 1 - np.exp(-integral), rtol=1e-4)
    long, _ = schedules.chain("linear", 20_000)(jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(np.log(alpha), np.log(long), rtol=5e-3)


@pytest.mark.parametrize("path", [schedules.linear, schedules.cosine, schedules.chain("cosine", 50)])
def test_paths_preserve_variance_and_lose_signal(path):
    t = jnp.linspace(0, 1, 101)
    alpha, sigma = path(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, np.ones(101), atol=1e-6)
    assert (alpha[0], sigma[0]) == (1, 0)
    assert np.all(np.diff(schedules.log_snr(alpha, sigma)[1:-1]) < 0)


@pytest.mark.parametrize("betas", [[0.1, 1.0], [0.0, 0.1], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        schedules.discrete(np.asarray(betas))


@pytest.mark.parametrize("spacing", ["trailing", "leading", "quadratic"])
@pytest.mark.parametrize(("steps", "chain"), [(1, 1000), (7, 1000), (50, 1000), (999, 1000), (10, 10)])
def test_times_are_points_of_the_chain(spacing, steps, chain):
    times = schedules.times(steps, chain, spacing)
    index = np.round(times * chain)
    np.testing.assert_allclose(times * chain, index, atol=1e-3)
    assert len(times) == steps + 1
    assert times[-1] == 0
    assert np.all(np.diff(index) < 0)
    assert index[0] <= chain
    if spacing == "trailing":
        assert times[0] == 1


@pytest.mark.parametrize(("steps", "spacing"), [(0, "trailing"), (11, "trailing"), (5, "sideways")])
def test_impossible_times_are_refused(steps, spacing):
    with pytest.raises(ConfigError, match=r"steps|spacing"):
        schedules.times(steps, 10, spacing)


def test_diffusing_step_by_step_gives_the_marginal():
    """q(x_t | x_0) by running the chain of 50 steps on many copies of one point."""
    betas = schedules.linear_betas(50)
    x = jnp.full((200_000,), 0.7)

    def step(x, step):
        key, beta = step
        return jnp.sqrt(1 - beta) * x + jnp.sqrt(beta) * jax.random.normal(key, x.shape), None

    keys = jax.random.split(jax.random.key(0), 20)
    x, _ = jax.lax.scan(step, x, (keys, jnp.asarray(betas[:20], jnp.float32)))
    alpha, sigma = schedules.discrete(betas)(jnp.asarray(20 / 50))
    assert abs(x.mean() - 0.7 * alpha) < 5 * sigma / np.sqrt(x.size)
    assert abs(x.var() / sigma**2 - 1) < 5 * np.sqrt(2 / x.size)


def test_posterior_is_bayes_rule():
    """q(x_s | x_t, x_0), in float64, by conditioning the joint Gaussian of (x_s, x_t) given x_0 = 0.6."""
    betas = schedules.linear_betas(T)
    path, alpha_bar = schedules.discrete(betas), np.concatenate([[1], np.cumprod(1 - betas)])
    for s, t in [(0, 1), (1, 2), (499, 500), (300, 700), (999, 1000)]:
        to = alpha_bar[t] / alpha_bar[s]
        cov_ss, cov_st, cov_tt = 1 - alpha_bar[s], np.sqrt(to) * (1 - alpha_bar[s]), 1 - alpha_bar[t]
        gain = cov_st / cov_tt
        mean = np.sqrt(alpha_bar[s]) * 0.6 + gain * (-0.3 - np.sqrt(alpha_bar[t]) * 0.6)
        variance = cov_ss - gain * cov_st
        a, b, v = gaussian.posterior_coefficients(path(jnp.asarray(s / T)), path(jnp.asarray(t / T)))
        np.testing.assert_allclose(a * -0.3 + b * 0.6, mean, rtol=1e-4)
        np.testing.assert_allclose(v, variance, rtol=2e-4)
        large = gaussian.step_variance(path(jnp.asarray(s / T)), path(jnp.asarray(t / T)), "large")
        np.testing.assert_allclose(large, 1 - to, rtol=2e-4)


def test_predictions_agree_when_converted():
    key = jax.random.split(jax.random.key(1), 2)
    x_0, noise = jax.random.normal(key[0], (4, 5, 5, 1)), jax.random.normal(key[1], (4, 5, 5, 1))
    now = schedules.cosine(jnp.array([0.1, 0.4, 0.6, 0.9]))
    x_t = gaussian.diffuse(x_0, noise, now)
    for prediction in get_args(gaussian.Prediction):
        said = gaussian.target(prediction, x_0, noise, now)
        np.testing.assert_allclose(gaussian.to_data(prediction, said, x_t, now), x_0, atol=2e-5)
    np.testing.assert_allclose(gaussian.to_noise(x_0, x_t, now), noise, atol=2e-5)
    # Salimans & Ho 2022: with alpha = cos(phi), sigma = sin(phi), velocity is d x_t / d phi.
    angle = lambda phi: gaussian.diffuse(x_0, noise, (jnp.cos(phi), jnp.sin(phi)))
    phi = jnp.arctan2(now[1], now[0])
    _, velocity = jax.jvp(angle, (phi,), (jnp.ones_like(phi),))
    np.testing.assert_allclose(gaussian.target("velocity", x_0, noise, now), velocity, atol=1e-5)


def test_the_straight_path_is_that_of_flow_matching():
    """The flow is dx_t/dt; the posterior of a step is that of the joint Gaussian of x_s and x_t given x_0."""
    x_0, noise = jnp.full((1, 2), 0.3), jnp.full((1, 2), -1.2)
    t = jnp.array([0.7])
    at = lambda t: gaussian.diffuse(x_0, noise, schedules.straight(t))
    _, flow = jax.jvp(at, (t,), (jnp.ones_like(t),))
    np.testing.assert_allclose(
        gaussian.target("flow_velocity", x_0, noise, schedules.straight(t)), flow, atol=1e-6
    )
    assert [float(c) for c in schedules.straight(jnp.ones(()))] == [0.0, 1.0]
    # From pure noise, the posterior of the step to s is q(x_s | x_0), whatever x_t is.
    s = schedules.straight(jnp.array(0.6))
    of_x, of_data, variance = gaussian.posterior_coefficients(s, schedules.straight(jnp.ones(())))
    np.testing.assert_allclose([of_x, of_data, variance], [0.0, 0.4, 0.36], atol=1e-6)


@pytest.mark.parametrize("weighting", ["snr", "min_snr", "edm", "sigmoid", "bound"])
def test_weighted_errors_do_not_depend_on_the_prediction(weighting):
    """A weighting of x_0's error is one number, whichever output the error is made in."""
    s, t = schedules.cosine(jnp.array([0.1, 0.45])), schedules.cosine(jnp.array([0.2, 0.5]))
    x_t, output = jnp.ones((2, 3)), jnp.full((2, 3), 0.4)
    totals = []
    for prediction in get_args(gaussian.Prediction):
        wrong = gaussian.to_data(prediction, output, x_t, t) - gaussian.to_data(
            prediction, output + 0.1, x_t, t
        )
        per_data = 0.01 / jnp.square(wrong[:, 0])
        totals.append(gaussian.weight(weighting, prediction, s, t) * per_data)
    snr_s, snr_t = (np.exp(schedules.log_snr(*c)) for c in (s, t))
    ratio = 1 / np.sqrt(snr_t)
    expected = {
        "snr": snr_t,
        "min_snr": np.minimum(snr_t, 5.0),
        "edm": (ratio**2 + 0.25) / (0.5 * ratio) ** 2,
        "sigmoid": snr_t / (1 + snr_t),
        "bound": 0.5 * (snr_s - snr_t),
    }[weighting]
    for total in totals:
        np.testing.assert_allclose(total, expected, rtol=1e-3)


def test_edms_preconditioning_is_the_papers_and_the_velocitys():
    """On x / alpha it is table 1; with data of unit variance on a circle the output is minus the velocity."""
    ratio, d = np.array([0.002, 0.5, 80.0], np.float32), 0.5
    skip, out, scale = gaussian.preconditioning((jnp.ones(3), jnp.asarray(ratio)), d)
    np.testing.assert_allclose(skip, d**2 / (ratio**2 + d**2), rtol=1e-5)
    np.testing.assert_allclose(out, ratio * d / np.sqrt(ratio**2 + d**2), rtol=1e-5)
    np.testing.assert_allclose(scale, 1 / np.sqrt(ratio**2 + d**2), rtol=1e-5)
    x_0, noise = jnp.full((3, 2), 0.3), jnp.full((3, 2), -1.2)
    at = schedules.cosine(jnp.array([0.1, 0.5, 0.9]))
    edm = gaussian.target("edm", x_0, noise, at, 1.0)
    np.testing.assert_allclose(edm, -gaussian.target("velocity", x_0, noise, at), atol=1e-5)
    # Without signal the estimate is the output alone, scaled.
    alone = gaussian.to_data("edm", noise, x_0, (jnp.zeros(3), jnp.ones(3)), d)
    np.testing.assert_allclose(alone, d * noise, rtol=1e-6)


def test_the_paths_of_exploding_variance():
    t = jnp.linspace(0.0, 1.0, 18)
    alpha, sigma = schedules.edm(t)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    np.testing.assert_allclose(sigma[1:], (low + np.asarray(t[1:]) * (high - low)) ** 7, rtol=1e-4)
    assert float(sigma[0]) == 0
    assert set(np.asarray(alpha)) == {1.0}
    _, sigma = schedules.exploding(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(sigma, [0.0, np.sqrt(0.5), 50.0], rtol=1e-5)


@pytest.mark.parametrize("name", get_args(schedules.Schedule))
@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
def test_times_even_in_the_noise(name: str, spacing: schedules.Spacing):
    """Between the chain's first and last times with signal; EDM's own steps, for its path."""
    path = schedules.chain(name, 1000)  # type: ignore[arg-type]
    times = schedules.times(10, 1000, spacing, path)
    assert times.shape == (11,)
    assert times[0] == 1
    assert times[-1] == 0
    assert (np.diff(times) < 0).all()
    alpha, sigma = (np.asarray(x, np.float64) for x in path(jnp.asarray(times)))
    ratio = sigma[:-1] / np.maximum(alpha[:-1], 1e-30)
    warped = ratio ** (1 / 7) if spacing == "karras" else np.log(ratio)
    inner = np.diff(warped)[1:]
    np.testing.assert_allclose(inner, inner.mean(), rtol=0.02)
    if name == "edm" and spacing == "karras":
        first, last = (float(path(jnp.float32(t))[1]) for t in (1.0, 0.001))
        i = np.arange(10)
        expected = (first ** (1 / 7) + i / 9 * (last ** (1 / 7) - first ** (1 / 7))) ** 7
        np.testing.assert_allclose(ratio, expected, rtol=1e-3)


def test_a_shift_moves_times_to_more_noise():
    t = np.linspace(0, 1, 5)
    moved = schedules.shifted(t, 3.0)
    np.testing.assert_allclose(moved, 3 * t / (1 + 2 * t))
    assert schedules.shifted(t, 1.0) is t
    # The straight path at the shifted time has the noise level times the shift.
    a, b = schedules.straight(jnp.float32(0.4)), schedules.straight(jnp.float32(schedules.shifted(0.4, 3.0)))
    np.testing.assert_allclose(b[1] / b[0], 3 * a[1] / a[0], rtol=1e-5)
