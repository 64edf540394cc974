"""Mixtures of discretised logistics: exact sums, a written-out reference, draws, means."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from genjax.functional import likelihoods, mixtures
from genjax.functional.decoded_pixels import DecodedPixels

LEVELS = 5


def output(components: int, channels: int, pixels: int = 2, scale: float = 0.3) -> jax.Array:
    """A decoder's output for one row of `pixels` x 1 pixels, with locations in the range of the values."""
    count = 2 * components + mixtures.extra(components, channels)
    out = jax.random.normal(jax.random.key(0), (count, 1, pixels, 1, channels))
    return out.at[components : 2 * components].set(np.log(scale) + 0.3 * out[components : 2 * components])


def every(channels: int, pixels: int = 2) -> jax.Array:
    """All values of a pixel, as rows of images with equal pixels."""
    values = np.array(list(itertools.product(range(LEVELS), repeat=channels)), np.uint8)
    return jnp.asarray(np.broadcast_to(values[:, None, None], (len(values), pixels, 1, channels)))


def probabilities(out: jax.Array, components: int, channels: int) -> np.ndarray:
    """(values, pixels)"""
    images = every(channels)
    wide = jnp.broadcast_to(out, (out.shape[0], images.shape[0], *out.shape[2:]))
    log_p = mixtures.log_prob(mixtures.of_output(wide, components), images, LEVELS)
    assert log_p.shape == (*images.shape[:-1], 1)
    return np.exp(np.asarray(log_p, np.float64))[:, :, 0, 0]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_values_of_a_pixel_have_probabilities_that_sum_to_one(channels: int):
    np.testing.assert_allclose(probabilities(output(4, channels), 4, channels).sum(0), 1, atol=1e-5)


def test_it_is_the_formula_of_the_paper():
    K = 3
    out = output(K, 3)
    x = np.array([3, 0, 4])
    v = 2 * x / (LEVELS - 1) - 1
    o = np.asarray(out, np.float64)[:, 0, 0, 0]
    m, s = o[:K], np.exp(o[K : 2 * K])
    logits, c = o[2 * K : 3 * K].sum(-1), np.tanh(o[3 * K :])
    weight = np.exp(logits) / np.exp(logits).sum()
    total = 0.0
    for k in range(K):
        # eq. 3: the red, green and blue locations
        mean = (m[k, 0], m[k, 1] + c[k, 0] * v[0], m[k, 2] + c[k, 1] * v[0] + c[k, 2] * v[1])
        p = weight[k]
        for channel in range(3):
            half = 1 / (LEVELS - 1)
            above = np.inf if x[channel] == LEVELS - 1 else v[channel] + half
            below = -np.inf if x[channel] == 0 else v[channel] - half
            p *= expit((above - mean[channel]) / s[k, channel]) - expit(
                (below - mean[channel]) / s[k, channel]
            )
        total += p
    image = jnp.asarray(np.broadcast_to(x, (1, 2, 1, 3)), jnp.uint8)
    log_p = mixtures.log_prob(mixtures.of_output(out, K), image, LEVELS)
    np.testing.assert_allclose(log_p[0, 0, 0, 0], np.log(total), rtol=1e-5)


def test_one_component_of_one_channel_is_the_discretised_logistic():
    out = output(1, 1)
    image = jnp.array([1, 4], jnp.uint8).reshape(1, 2, 1, 1)
    ours = mixtures.log_prob(mixtures.of_output(out, 1), image, LEVELS)
    np.testing.assert_allclose(
        ours, likelihoods.discretised_logistic(out[0], out[1], image, LEVELS), rtol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_have_these_probabilities(channels: int):
    out = output(2, channels)
    p = probabilities(out, 2, channels)
    draw = lambda key: mixtures.draw(key, mixtures.of_output(out[:, 0], 2), LEVELS)
    n = 20_000
    x = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), n)))
    assert x.dtype == np.uint8
    number = (x[:, :, 0].astype(int) * LEVELS ** np.arange(channels)[::-1]).sum(-1)
    for pixel in range(2):
        seen = np.bincount(number[:, pixel], minlength=LEVELS**channels) / n
        error = np.sqrt(p[:, pixel] * (1 - p[:, pixel]) / n) + 1e-9
        assert (np.abs(seen - p[:, pixel]) / error).max() < 5


def test_the_mean_is_that_of_draws_of_narrow_components():
    out = output(3, 3, scale=1e-2)
    out = out.at[:3].multiply(0.2)  # nothing is clipped
    got = mixtures.mean(mixtures.of_output(out, 3))
    draw = lambda key: mixtures.draw(key, mixtures.of_output(out[:, 0], 3), 256)
    x = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
    np.testing.assert_allclose(got[0], (np.asarray(x, np.float64) / 127.5 - 1).mean(0), atol=0.03)


def test_gradients_are_finite_far_from_the_data():
    pixels = DecodedPixels("discretised_logistic_mixture", 256, 2)
    image = jnp.full((1, 2, 1, 3), 255, jnp.uint8)
    slope = jax.grad(lambda out: pixels.log_prob(out, image).sum())(-30.0 * jnp.ones_like(output(2, 3)))
    assert jnp.isfinite(slope).all()
