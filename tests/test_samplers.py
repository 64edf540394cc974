"""Samplers on a mixture of Gaussians whose score is known: orders of convergence, moments, evaluations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Denoiser, Variables
from genjax.errors import ConfigError
from genjax.functional import schedules
from genjax.sampling import diffusion as sampling
from genjax.sampling.methods import METHODS, Point, method

MEANS = np.array([-1.0, 0.5], np.float32)
SPREAD = 0.5
SHARES = np.array([0.4, 0.6], np.float32)
PATHS = {"linear": schedules.linear, "straight": schedules.straight}
END = 0.1
"""The time at which the orders are measured: the last step to no noise is another one."""
ORDERS = {
    "euler": ({}, 1),
    "ddim": ({}, 1),
    "heun": ({}, 2),
    "dpm_solver": ({"order": 2}, 2),
    "dpm_solver 3": ({"order": 3}, 3),
    "deis": ({"order": 2}, 2),
    "deis 3": ({"order": 3}, 3),
    "lms": ({"order": 2}, 2),
    "lms 3": ({"order": 3}, 3),
    # Its runs always end with lower orders, so that order 3 converges as order 2.
    "unipc": ({"order": 2}, 2),
}


def denoise(path: schedules.Path, x: jax.Array, t: jax.Array) -> jax.Array:
    """E[x_0 | x_t] of the mixture, for x (B, 1)."""
    alpha, sigma = path(t)
    alpha, sigma = alpha[:, None], sigma[:, None]
    variance = alpha**2 * SPREAD**2 + sigma**2
    far = x - alpha * MEANS[None]
    weights = jax.nn.softmax(jnp.log(SHARES)[None] - 0.5 * far**2 / variance, -1)
    each = MEANS[None] + alpha * SPREAD**2 / variance * far
    return (weights * each).sum(-1, keepdims=True)


def run(how: sampling.Method, path: schedules.Path, x: jax.Array, times: np.ndarray) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), x.shape[0])
    go = jax.jit(lambda x: sampling.integrate(functools.partial(denoise, path), path, x, keys, times, how))
    return np.asarray(go(x))


def grid(path: schedules.Path, steps: int, first: float, last: float) -> np.ndarray:
    """Times that are even in lambda, but for a short start."""
    ends = [path(jnp.float32(t)) for t in (first, last)]
    lam = [float(jnp.log(a) - jnp.log(s)) for a, s in ends]
    even = np.linspace(*lam, steps + 1)
    # Multistep methods start with a step of first order: a short one, so that it does not decide.
    h = even[1] - even[0]
    start = even[0] + h * np.array([0.01, 0.04, 0.16, 0.5])
    places = np.concatenate([even[:1], start, even[1:]])
    return np.asarray(schedules.time_of(path, jnp.asarray(places, jnp.float32)))


@functools.cache
def exact(name: str) -> np.ndarray:
    path = PATHS[name]
    return run(METHODS["dpm_solver"](order=3), path, starts(name), grid(path, 1000, 0.9, END))


def starts(name: str) -> jax.Array:
    alpha, sigma = PATHS[name](jnp.float32(0.9))
    return (sigma * jnp.linspace(-2.0, 2.0, 32) + alpha * 0.1)[:, None]


@pytest.mark.parametrize("name", ["linear", "straight"])
@pytest.mark.parametrize("case", sorted(ORDERS))
def test_each_method_converges_at_its_order(case: str, name: str):
    options, order = ORDERS[case]
    how = METHODS[case.split()[0]](**options)
    path = PATHS[name]
    counts = np.array([16, 32, 64] if order < 3 else [24, 36, 54])
    errors = [
        np.abs(run(how, path, starts(name), grid(path, int(n), 0.9, END)) - exact(name)).mean()
        for n in counts
    ]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope > order - 0.25, errors
    assert slope < order + 1.3, errors


STOCHASTIC = {
    "ddpm": {},
    "euler_ancestral": {},
    "dpm_solver_sde": {"order": 2},
    "heun": {"churn": 10.0},
}


@pytest.mark.parametrize("case", sorted({*METHODS} - {"consistency"}))
def test_each_method_draws_the_mixture(case: str):
    """In 150 steps; means and variances to the accuracy of 20,000 draws and of the slowest method."""
    keys = jax.random.split(jax.random.key(1), 20_000)
    path = schedules.linear
    denoiser = Denoiser(lambda v: path, lambda v, x, t, p: denoise(path, x, t))
    knobs: dict[str, Any] = STOCHASTIC.get(case, {})
    times = np.linspace(1, 0, 151).astype(np.float32) ** 1.5
    draw = jax.jit(
        lambda k: sampling.sample(denoiser, Variables(), k, {}, times, shape=(1,), sampler=case, **knobs)
    )
    x = np.asarray(draw(keys))[:, 0]
    mean = float((SHARES * MEANS).sum())
    variance = float((SHARES * MEANS**2).sum()) - mean**2 + SPREAD**2
    assert abs(x.mean() - mean) < 0.03
    assert abs(x.var() - variance) < 0.05
    assert abs((x > 0).mean() - 0.4 * 0.0228 - 0.6 * 0.8413) < 0.02


def test_one_step_of_consistency_is_the_estimate_and_more_add_fresh_noise():
    path = schedules.linear
    keys = jax.random.split(jax.random.key(1), 5)
    x = jax.random.normal(jax.random.key(2), (5, 1))
    estimate = functools.partial(denoise, path)
    how = METHODS["consistency"]()
    once = sampling.integrate(estimate, path, x, keys, np.array([1.0, 0.0]), how)
    np.testing.assert_allclose(once, estimate(x, jnp.ones(5)), rtol=1e-6)
    twice = sampling.integrate(estimate, path, x, keys, np.array([1.0, 0.5, 0.0]), how)
    alpha, sigma = path(jnp.float32(0.5))
    noise = sampling.normal(keys, (1,), 1)
    between = alpha * once + sigma * noise
    np.testing.assert_allclose(twice, estimate(between, jnp.full(5, 0.5)), rtol=1e-5)


@pytest.mark.parametrize("case", sorted(METHODS))
def test_a_run_may_start_without_signal_and_end_without_noise(case: str):
    """Where alpha or sigma is zero, lambda is infinite: the straight path has both ends."""
    path = schedules.straight
    x = jax.random.normal(jax.random.key(2), (64, 1))
    times = np.linspace(1, 0, 31).astype(np.float32)
    found = run(METHODS[case](), path, x, times)
    assert np.isfinite(found).all()
    if case != "consistency":
        assert 0.3 < found.var() < 1.5


@pytest.mark.parametrize("case", sorted(METHODS))
def test_the_evaluations_of_the_network_are_counted(case: str):
    path = schedules.linear
    calls = []

    def counted(x: jax.Array, t: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return denoise(path, x, t)

    how = METHODS[case]()
    keys = jax.random.split(jax.random.key(0), 2)
    for steps in (1, 5):
        calls.clear()
        times = np.linspace(1, 0, steps + 1).astype(np.float32)
        x = jax.jit(lambda x, times=times: sampling.integrate(counted, path, x, keys, times, how))(
            jnp.ones((2, 1))
        )
        jax.block_until_ready(x)
        jax.effects_barrier()
        assert len(calls) == how.evaluations(steps)


@pytest.mark.parametrize("name", ["linear", "cosine", "straight"])
def test_the_inverse_of_a_path(name: str):
    path: Callable = getattr(schedules, name)
    t = jnp.linspace(0.02, 0.98, 25)
    alpha, sigma = path(t)
    np.testing.assert_allclose(schedules.time_of(path, jnp.log(alpha) - jnp.log(sigma)), t, atol=1e-5)
    ends = schedules.time_of(path, jnp.asarray([50.0, -50.0]))
    np.testing.assert_allclose(ends, [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("heum", {}, "did you mean 'heun'"),
        ("ddim", {"order": 2}, "no such option: order"),
        ("unipc", {"order": 4}, "order=4"),
        ("lms", {"order": 5}, "order=5"),
        ("deis", {"order": 4}, "order=4"),
        ("dpm_solver_sde", {"order": 3}, "order=3"),
        ("dpm_solver", {"order": 4}, "order=4"),
        ("pndm", {"order": 5}, "order=5"),
    ],
)
def test_what_is_wrong_is_named(name: str, options: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        method(name, path=schedules.linear, **options)


def test_a_point_knows_its_ratios():
    point = Point(jnp.float32(0.5), jnp.float32(0.6), jnp.float32(0.3))
    np.testing.assert_allclose(point.ratio, 0.5)
    np.testing.assert_allclose(point.half_log_snr, np.log(2.0), rtol=1e-6)
