"""Bounds from log weights: their order, their special cases, and the gradients of encoder and decoder."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.functional import bounds
from genjax.functional.bounds import Bound
from genjax.functional.likelihoods import log_mean_exp_of, normal


def weights(m: int, k: int, rows: int = 6, seed: int = 0) -> jax.Array:
    return 3.0 * jax.random.normal(jax.random.key(seed), (m, k, rows))


def test_one_draw_makes_all_bounds_the_elbo():
    w = weights(1, 1)
    for kind in ("elbo", "iwae", "miwae", "ciwae", "piwae", "dreg"):
        np.testing.assert_allclose(Bound(kind).value(w), w[0, 0], rtol=1e-6)


def test_bounds_are_ordered():
    """Jensen: mean of logs <= mean of the logs of the means of groups <= log of the mean, for any weights."""
    w = weights(4, 8)
    elbo, miwae, ciwae, iwae = (np.asarray(Bound(k).value(w)) for k in ("elbo", "miwae", "ciwae", "iwae"))
    assert (elbo < miwae).all()
    assert (miwae < iwae).all()
    np.testing.assert_allclose(ciwae, (elbo + iwae) / 2, rtol=1e-6)
    np.testing.assert_allclose(iwae, np.log(np.exp(np.asarray(w)).mean((0, 1))), rtol=1e-5)


def test_the_mean_weight_needs_no_memory_for_its_draws():
    w = weights(1, 50)[0]
    np.testing.assert_allclose(log_mean_exp_of(lambda k: w[k], 50, 6), bounds.iwae(w[None]), rtol=1e-5)


def toy(theta: dict, noise: jax.Array, bound: Bound, learner: str) -> jax.Array:
    """log weights of p(z) = N(0, 1), p(x | z) = N(b z, 1), q(z | x) = N(a x, s^2) for rows x."""
    x = jnp.linspace(-2.0, 2.0, noise.shape[-1])
    live = lambda *whose: theta if learner in ("both", *whose) else jax.lax.stop_gradient(theta)
    encoder, decoder = live("encoder"), live("decoder")
    mean, log_std = encoder["a"] * x, jnp.broadcast_to(encoder["log_s"], x.shape)
    density = (mean, log_std)
    if bound.kind == "dreg" and learner == "encoder":
        density = jax.lax.stop_gradient(density)

    def one(e: jax.Array) -> jax.Array:
        z = mean + jnp.exp(log_std) * e
        log_p = normal(jnp.zeros_like(z), jnp.zeros_like(z), z)
        log_p += normal(decoder["b"] * z, jnp.zeros_like(z), x)
        return log_p - normal(*density, z)

    return jax.vmap(jax.vmap(one))(noise)


THETA = {"a": jnp.float32(0.2), "log_s": jnp.float32(-0.1), "b": jnp.float32(1.4)}


def gradient(bound: Bound, noise: jax.Array) -> dict:
    total = lambda t: bounds.of_two(bound, functools.partial(toy, t, noise, bound)).mean()
    return jax.device_get(jax.jit(jax.grad(total))(THETA))


def test_piwae_has_the_decoder_of_iwae_and_the_encoder_of_miwae():
    noise = jax.random.normal(jax.random.key(1), (3, 5, 7))
    got = gradient(Bound("piwae", samples=5, groups=3), noise)
    whole = gradient(Bound("iwae", samples=15), noise.reshape(1, 15, 7))
    groups = gradient(Bound("miwae", samples=5, groups=3), noise)
    np.testing.assert_allclose(got["b"], whole["b"], rtol=1e-5)
    np.testing.assert_allclose([got["a"], got["log_s"]], [groups["a"], groups["log_s"]], rtol=1e-5)
    assert abs(got["a"] - whole["a"]) > 1e-3


def test_the_doubly_reparametrised_gradient_has_the_same_mean_and_less_variance():
    """Tucker et al. 2019, eq. 8: unbiased for the encoder, unchanged for the decoder."""
    draws = jax.random.normal(jax.random.key(2), (4000, 1, 8, 5))

    def all_of(kind: str) -> dict:
        bound = Bound(kind, samples=8)
        total = lambda t, e: bounds.of_two(bound, functools.partial(toy, t, e, bound)).mean()
        return jax.device_get(jax.jit(jax.vmap(jax.grad(total), (None, 0)))(THETA, draws))

    plain, doubly = all_of("iwae"), all_of("dreg")
    np.testing.assert_allclose(plain["b"], doubly["b"], rtol=1e-3, atol=1e-5)
    for name in ("a", "log_s"):
        error = np.hypot(plain[name].std(), doubly[name].std()) / 4000**0.5
        assert abs(plain[name].mean() - doubly[name].mean()) < 4 * error
        assert doubly[name].std() < 0.7 * plain[name].std()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"kind": "elbo", "samples": 5}, "samples has no effect with kind='elbo'"),
        ({"kind": "iwae", "groups": 5}, "groups has no effect"),
        ({"kind": "miwae", "share": 0.1}, "share has no effect"),
        ({"kind": "iwae", "samples": 0}, "samples"),
    ],
)
def test_fields_without_effect_are_refused(fields: dict, match: str):
    with pytest.raises(ValueError, match=match):
        Bound(**fields)
