"""Samplers with a denoiser that is known exactly: Gaussian data, for which E[x_0 | x_t] is linear."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Denoiser, Variables
from genjax.errors import ConfigError
from genjax.functional import schedules
from genjax.functional.diffusion import posterior_coefficients
from genjax.sampling import diffusion as sampling

T = 400
PATH = schedules.chain("linear", T)
MEANS = np.array([[0.5, -1.0], [-0.5, 2.0]], np.float32)
"""Of the data, by label."""
COV = np.array([[0.5, 0.3], [0.3, 0.8]], np.float32)
NONE = Variables()


def denoise(variables, x_t, t, prompt):
    """E[x_0 | x_t] for x_0 ~ N(MEANS[label], COV); the mean is 0 where the label is below 0."""
    label = prompt.get("label", jnp.zeros(x_t.shape[0], jnp.int32))
    mean = jnp.where(label[:, None] < 0, 0.0, jnp.asarray(MEANS)[label])
    alpha, sigma = (c[:, None] for c in PATH(t))
    # alpha COV (alpha^2 COV + sigma^2 I)^-1 in the basis where COV is diagonal.
    variances, basis = (jnp.asarray(a) for a in np.linalg.eigh(COV))
    gain = alpha * variances[None] / (alpha**2 * variances[None] + sigma**2)
    return mean + (gain * ((x_t - alpha * mean) @ basis)) @ basis.T


DENOISER = Denoiser(lambda variables: PATH, denoise)


def draw(num=10_000, steps=100, seed=0, prompt=None, times=None, **knobs):
    keys = jax.random.split(jax.random.key(seed), num)
    times = schedules.times(steps, T) if times is None else times
    run = jax.jit(lambda k, p: sampling.sample(DENOISER, NONE, k, p, times, shape=(2,), **knobs))
    return np.asarray(run(keys, {} if prompt is None else prompt))


@pytest.mark.parametrize(
    "knobs",
    [
        {"sampler": "ddpm", "steps": T},
        {"sampler": "ddpm", "variance": "large", "steps": T},
        {"sampler": "ddim", "steps": T},
        {"sampler": "ddim", "eta": 0.5, "steps": T},
    ],
    ids=str,
)
def test_the_data_gaussian_is_recovered(knobs):
    x = draw(**knobs)
    # 10,000 rows: standard errors of 0.01; the chain's own discretisation is of that size.
    np.testing.assert_allclose(x.mean(0), MEANS[0], atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), COV, atol=0.04)


def test_ddim_is_one_map_whatever_the_number_of_steps():
    """With the exact denoiser the flow is a curve: finer steps converge to it, and it runs backwards."""
    coarse, fine, finest = (draw(64, steps) for steps in (40, 200, 400))
    assert np.abs(fine - finest).max() < 0.3 * np.abs(coarse - finest).max()
    assert np.abs(fine - finest).max() < 0.02
    estimate = lambda x, t: denoise(NONE, x, t, {})
    keys = jax.random.split(jax.random.key(1), 8)
    start = sampling.normal(keys, (2,))
    times = np.linspace(1, 0.0025, 400, dtype=np.float32)
    there = sampling.integrate(estimate, PATH, start, keys, times, sampling.METHODS["ddim"]())
    back = sampling.integrate(estimate, PATH, there, keys, times[::-1].copy(), sampling.METHODS["ddim"]())
    assert np.abs(there - start).max() > 0.2
    np.testing.assert_allclose(back, start, atol=0.05)


def test_ddim_without_noise_is_deterministic_given_where_it_starts():
    x = sampling.normal(jax.random.split(jax.random.key(0), 4), (2,))
    run = lambda seed: sampling.integrate(
        lambda x, t: denoise(NONE, x, t, {}),
        PATH,
        x,
        jax.random.split(jax.random.key(seed), 4),
        schedules.times(20, T),
        sampling.METHODS["ddim"](),
    )
    np.testing.assert_array_equal(run(1), run(2))


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_ddim_at_eta_one_is_ancestral_sampling(spacing):
    """Same mean and variance, hence the same samples from the same keys."""
    times = schedules.times(25, T, spacing)
    a = draw(256, times=times, sampler="ddim", eta=1.0)
    b = draw(256, times=times, sampler="ddpm")
    np.testing.assert_allclose(a, b, atol=2e-4)
    assert np.abs(a - draw(256, times=times, sampler="ddim", eta=0.0)).max() > 0.1


def test_one_ancestral_step_has_the_posteriors_moments():
    keys = jax.random.split(jax.random.key(3), 50_000)
    x, times = jnp.full((50_000, 1), 0.3), jnp.array([0.5, 0.45])
    y = sampling.integrate(
        lambda x, t: jnp.full_like(x, -0.2), PATH, x, keys, times, sampling.METHODS["ddpm"]()
    )
    a, b, v = posterior_coefficients(PATH(times[1]), PATH(times[0]))
    assert abs(y.mean() - (a * 0.3 - b * 0.2)) < 5 * np.sqrt(v / 50_000)
    assert abs(y.var() / v - 1) < 5 * np.sqrt(2 / 50_000)


def counted():
    """The denoiser, and a list of the batch sizes with which it was traced."""
    sizes = []

    def estimate(variables, x, t, prompt):
        sizes.append(x.shape[0])
        return denoise(variables, x, t, prompt)

    return Denoiser(lambda variables: PATH, estimate), sizes


LABEL = {"label": jnp.array([0, 1, 1, 0])}
NULL = {"label": jnp.full((4,), -1)}


@pytest.mark.parametrize(("scale", "size"), [(1.0, 4), (0.0, 4), (3.0, 8)])
def test_guidance_doubles_the_batch_only_where_it_must(scale, size):
    denoiser, sizes = counted()
    keys, times = jax.random.split(jax.random.key(0), 4), schedules.times(10, T)
    run = lambda prompt, **knobs: sampling.sample(denoiser, NONE, keys, prompt, times, shape=(2,), **knobs)
    x = run(LABEL, guidance=scale, null=NULL)
    assert set(sizes) == {size}
    if scale < 2:
        np.testing.assert_array_equal(x, run(LABEL if scale else NULL))


def test_guidance_extrapolates_from_the_null_prompt():
    x, t = jnp.ones((4, 2)), jnp.full((4,), 0.4)
    of = lambda prompt: denoise(NONE, x, t, prompt)
    guided = sampling.guided(lambda x, t, p: denoise(NONE, x, t, p), 3.0, LABEL, NULL)(x, t)
    np.testing.assert_allclose(guided, of(NULL) + 3 * (of(LABEL) - of(NULL)), rtol=1e-5)
    with pytest.raises(ConfigError, match="guidance"):
        sampling.guided(denoise, 3.0, {}, None)


@pytest.mark.parametrize("knobs", [{"sampler": "ddpm"}, {"guidance": 2.0}], ids=str)
def test_a_row_depends_on_its_key_and_label_alone(knobs):
    keys, times = jax.random.split(jax.random.key(5), 6), schedules.times(10, T)
    label = jnp.array([0, 1, 0, 1, 1, 0])

    def run(rows):
        prompt = {"label": label[rows]}
        null = {"label": jnp.full(rows.shape, -1)}
        return sampling.sample(DENOISER, NONE, keys[rows], prompt, times, shape=(2,), null=null, **knobs)

    whole = run(jnp.arange(6))
    np.testing.assert_allclose(run(jnp.array([4, 1])), whole[jnp.array([4, 1])], atol=1e-5)
    np.testing.assert_allclose(run(jnp.array([3])), whole[3:4], atol=1e-5)
    assert len(np.unique(np.asarray(whole)[:, 0])) == 6


def test_the_loop_over_steps_is_one_scan():
    def trace(steps):
        return jax.make_jaxpr(
            lambda k: sampling.sample(
                DENOISER, NONE, k, {}, schedules.times(steps, T), shape=(2,), sampler="ddpm"
            )
        )(jax.random.split(jax.random.key(0), 2))

    scans = [e for e in trace(40).eqns if e.primitive.name == "scan" and e.params["length"] == 40]
    assert len(scans) == 1
    assert len(trace(40).eqns) == len(trace(T).eqns)


def test_a_method_of_ones_own_joins_by_one_function():
    """Heun's rule on the probability flow, with the last estimate kept in memory: closer at equal steps."""

    def step(estimate, x, memory, now, then, noise):
        def slope(x, at):  # of x / alpha by sigma / alpha
            return (x / at.alpha - estimate(x, at.t)) * at.alpha / at.sigma

        h = then.sigma / then.alpha - now.sigma / now.alpha
        first = slope(x, now)
        euler = then.alpha * (x / now.alpha + h * first)
        second = jnp.where(then.sigma > 0, slope(euler, then._replace(sigma=then.sigma + 1e-9)), first)
        return then.alpha * (x / now.alpha + h * (first + second) / 2), {"calls": memory["calls"] + 2}

    heun = sampling.Method(lambda x: {"calls": jnp.zeros((), jnp.int32)}, step)
    exact = draw(64, T)
    errors = [np.abs(draw(64, 50, sampler=s) - exact).max() for s in (heun, "ddim")]
    assert errors[0] < 0.5 * errors[1]


def test_thresholds_keep_estimates_in_range():
    x = jnp.array([[0.5, -3.0, 0.1, 0.2], [0.5, -0.5, 0.1, 0.2]])
    np.testing.assert_array_equal(sampling.threshold(x, None), x)
    np.testing.assert_array_equal(sampling.threshold(x, 1.0), np.clip(x, -1, 1))
    dynamic = sampling.threshold(x, 1.0, 1.0)
    np.testing.assert_allclose(dynamic[0], x[0] / 3, rtol=1e-6)
    np.testing.assert_array_equal(dynamic[1], x[1])
    clipped = draw(64, 20, clip=0.25)
    assert np.abs(clipped).max() <= 0.25 + 1e-6


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("dimm", {}),
        ("ddpm", {"eta": 0.5}),
        ("ddim", {"variance": "large"}),
        (sampling.METHODS["ddim"](), {"eta": 1.0}),
    ],
)
def test_unknown_samplers_and_options_are_named(name, knobs):
    with pytest.raises(ConfigError, match=r"did you mean 'ddim'|no such option|cannot be set"):
        sampling.method(name, **knobs)


def test_guidance_in_an_interval_evaluates_both_there_alone():
    sizes = []

    def seen(x, t, prompt):
        jax.debug.callback(lambda n=x.shape[0]: sizes.append(n))
        return x * t[:, None] + prompt["label"][:, None]

    prompt, null = {"label": jnp.ones(2)}, {"label": jnp.zeros(2)}
    guide = jax.jit(sampling.guided(seen, 3.0, prompt, null, (0.2, 0.6)))
    x = jnp.ones((2, 1))
    for t, label in ((0.1, 1.0), (0.2, 1.0), (0.5, 3.0), (0.6, 3.0), (0.7, 1.0)):
        np.testing.assert_allclose(guide(x, jnp.full(2, t)), t + label, rtol=1e-5)
    jax.effects_barrier()
    assert sizes == [2, 2, 4, 4, 2]


def test_a_rescaled_estimate_has_the_conditional_deviation():
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    denoise = lambda x, t, p: x * p["label"][:, None, None, None]
    prompt, null = {"label": jnp.full(4, 2.0)}, {"label": jnp.full(4, 0.5)}
    whole = sampling.guided(denoise, 4.0, prompt, null, rescale=1.0)(x, jnp.ones(4))
    np.testing.assert_allclose(whole.std((1, 2, 3)), 2 * x.std((1, 2, 3)), rtol=1e-4)
    plain = sampling.guided(denoise, 4.0, prompt, null)(x, jnp.ones(4))
    half = sampling.guided(denoise, 4.0, prompt, null, rescale=0.5)(x, jnp.ones(4))
    np.testing.assert_allclose(half, 0.5 * (whole + plain), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="have no effect"):
        sampling.guided(denoise, 1.0, prompt, null, rescale=0.5)
