"""Log-probabilities sum to one, agree with scipy, and keep their gradients in the tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from genjax.core import Element, Spec, row_keys
from genjax.functional import likelihoods as lik
from genjax.functional.divergences import kl_categorical, kl_normal
from genjax.models import hvae, vae

SCIPY = {"discretised_logistic": st.logistic, "discretised_normal": st.norm}


@pytest.mark.parametrize("name", SCIPY)
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 0.5, 20.0])
def test_levels_have_probabilities_that_sum_to_one(name, levels, scale):
    mean = jnp.array([-1.7, -1.0, -0.33, 0.0, 0.71, 1.0, 3.0])
    image = jnp.arange(levels).reshape(-1, 1)
    log_p = getattr(lik, name)(mean[None], jnp.full((1, 7), np.log(scale)), image, levels)
    np.testing.assert_allclose(np.exp(log_p).sum(0), 1.0, atol=2e-5)


@pytest.mark.parametrize("name", SCIPY)
def test_levels_agree_with_scipys_distribution_functions(name):
    levels, mean, scale = 17, 0.23, 0.11
    value = np.linspace(-1, 1, levels)
    edges = np.concatenate([[-np.inf], (value[1:] + value[:-1]) / 2, [np.inf]])
    expected = np.diff(SCIPY[name](mean, scale).cdf(edges))
    log_p = getattr(lik, name)(
        jnp.full(levels, mean), jnp.full(levels, np.log(scale)), jnp.arange(levels), levels
    )
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("name", SCIPY)
def test_far_tails_are_finite_and_pull_towards_the_data(name):
    f = getattr(lik, name)
    for level, mean in ((0, 30.0), (5, 30.0), (5, -30.0), (16, -30.0)):
        image = jnp.array(level)
        value, slope = jax.value_and_grad(lambda m, i=image: f(m, jnp.log(0.05), i, 17))(jnp.float32(mean))
        assert jnp.isfinite(value)
        assert value < -50
        assert jnp.sign(slope) == -jnp.sign(mean)


@pytest.mark.parametrize("name", SCIPY)
def test_gradients_agree_with_differences(name):
    f = getattr(lik, name)
    with jax.enable_x64(True):
        args = jnp.array([0.2, -2.0], jnp.float64)
        for level in (0, 3, 8, 16):
            g = lambda a, k=level: f(a[0], a[1], jnp.array(k), 17)
            h = 1e-6
            numeric = [(g(args.at[i].add(h)) - g(args.at[i].add(-h))) / (2 * h) for i in (0, 1)]
            np.testing.assert_allclose(jax.grad(g)(args), numeric, rtol=1e-5, atol=1e-7)


def test_densities_agree_with_scipy():
    x, mean, log_std = np.array([-0.3, 0.0, 2.0], np.float32), np.float32(0.4), np.float32(-0.7)
    ours = lik.normal(jnp.full(3, mean), jnp.full(3, log_std), jnp.asarray(x))
    np.testing.assert_allclose(ours, st.norm(mean, np.exp(log_std)).logpdf(x), rtol=1e-5)
    logits = jnp.array([-40.0, -1.0, 0.0, 3.0])
    for hit in (0.0, 1.0):
        p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
        expected = np.log(p) if hit else np.log1p(-p)
        np.testing.assert_allclose(lik.bernoulli(logits, jnp.full(4, hit)), expected, rtol=1e-5, atol=1e-7)


def test_log1mexp_is_accurate_at_both_ends():
    x = np.array([1e-7, 1e-3, 0.5, 0.7, 5.0, 50.0])
    np.testing.assert_allclose(
        lik.log1mexp(jnp.asarray(x, jnp.float32)),
        np.where(x < 1, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x))),
        rtol=1e-5,
    )


def test_mean_of_exponentials():
    x = jnp.array([[0.0, -1000.0], [np.log(3.0), -1000.0]])
    np.testing.assert_allclose(lik.log_mean_exp(x), [np.log(2.0), -1000.0], rtol=1e-6)


def test_kl_of_normals_by_quadrature():
    z = np.linspace(-12, 12, 200_001)
    for (m, s), (pm, ps) in (((0.5, 0.3), (0.0, 1.0)), ((-1.0, 1.5), (0.7, 0.8))):
        p, q = st.norm(m, s), st.norm(pm, ps)
        expected = np.trapezoid(p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), z)
        ours = kl_normal(jnp.float32(m), jnp.log(s), jnp.float32(pm), jnp.log(ps))
        np.testing.assert_allclose(ours, expected, rtol=1e-4)
    assert kl_normal(jnp.float32(0.0), jnp.float32(0.0)) == 0


def test_kl_of_categoricals():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    with np.errstate(divide="ignore"):
        ours = kl_categorical(jnp.asarray(np.log(p)), jnp.asarray(np.log(q)))
    np.testing.assert_allclose(ours, st.entropy(p, q), rtol=1e-6)


@pytest.mark.parametrize("module", [vae, hvae])
def test_a_bernoulli_decoder_starts_at_the_mean_image_of_the_rows_that_count(module):
    element = Element((4, 4, 1), "uint8", 2, "image", "target")
    fields = {"latents": (2, 2), "hidden": (4, 4)} if module is hvae else {"latent": 2, "hidden": (4,)}
    config = module.Config(network="mlp", likelihood="bernoulli", **fields)
    model = module.build(config, Spec({"image": element}, rows=100))
    rng = np.random.default_rng(0)
    image = (rng.uniform(size=(1000, 4, 4, 1)) < rng.uniform(size=(1, 4, 4, 1))).astype(np.uint8)
    batch = {"image": jnp.asarray(image), "mask": jnp.asarray(np.arange(1000) < 900, jnp.float32)}
    keys = row_keys(jax.random.key(0), 0, jnp.arange(1000))

    def drawn():
        variables = model.init(jax.random.key(1), batch, {})
        variables = model.fit(variables, batch, keys)
        # A decoder without weights of its own computes the start alone.
        variables = variables.replace(params=jax.tree.map(jnp.zeros_like, variables.params))
        return model.sample(variables, keys, {}, noise=True)["image"]

    mean = np.asarray(jax.jit(drawn)()).mean(0)
    np.testing.assert_allclose(mean, image[:900].mean(0), atol=0.06)
    assert (
        module.build(module.Config(network="mlp", **fields), Spec({"image": element}, rows=100)).fit is None
    )
