"""Filtered resampling and modulated convolutions against the operations they stand for, written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.functional import resample
from genjax.nn.modulated import EqualConv, modulated

TAPS = [(1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0)]
LAYOUT = ("NHWC", "HWIO", "NHWC")


def upfirdn(x, taps, up: int, down: int, padding: tuple[int, int], gain: float) -> np.ndarray:
    """Zeros between the pixels, zeros around, the filter, every `down`-th pixel (upfirdn2d of StyleGAN2)."""
    x = np.asarray(x, np.float64)
    B, H, W, C = x.shape
    wide = np.zeros((B, H * up, W * up, C))
    wide[:, ::up, ::up] = x
    wide = np.pad(wide, ((0, 0), padding, padding, (0, 0)))
    f = np.outer(taps, taps) / np.sum(taps) ** 2 * gain
    n = len(taps)
    out = np.zeros((B, wide.shape[1] - n + 1, wide.shape[2] - n + 1, C))
    for i in range(n):
        for j in range(n):
            out += f[i, j] * wide[:, i : i + out.shape[1], j : j + out.shape[2]]
    return out[:, ::down, ::down]


def image(side: int = 8, channels: int = 3) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, side, side + 2, channels))


@pytest.mark.parametrize("taps", TAPS)
def test_doubling_and_halving_are_upfirdn(taps):
    n = len(taps)
    x = image()
    up = upfirdn(x, taps, 2, 1, ((n - 1) // 2 + 1, (n - 2) // 2), 4.0)
    np.testing.assert_allclose(resample.upsample(x, taps), up, atol=1e-5)
    down = upfirdn(x, taps, 1, 2, ((n - 1) // 2, (n - 2) // 2), 1.0)
    np.testing.assert_allclose(resample.downsample(x, taps), down, atol=1e-5)
    blurred = upfirdn(x, taps, 1, 1, (2, 1), 4.0)
    np.testing.assert_allclose(resample.blur(x, (2, 1), taps, 4.0), blurred, atol=1e-5)


def test_halving_is_a_quarter_of_the_adjoint_of_doubling():
    x, y = image(8), image(16)[:, :, :20]
    y = jnp.pad(y, ((0, 0), (0, 0), (0, 20 - y.shape[2]), (0, 0)))
    left = (resample.upsample(x) * y).sum()
    right = 4 * (x * resample.downsample(y)).sum()
    np.testing.assert_allclose(left, right, rtol=1e-4)


def test_constants_stay_constant_inside():
    x = jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(resample.upsample(x)[:, 2:-2, 2:-2], 1.0, rtol=1e-6)
    np.testing.assert_allclose(resample.downsample(x)[:, 1:-1, 1:-1], 1.0, rtol=1e-6)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulation_scales_the_kernel_of_each_row(double, demodulate):
    """Karras et al. 2020, eq. 1 to 3, with a kernel of its own for every row."""
    x = jax.random.normal(jax.random.key(0), (3, 6, 4, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5, 7))
    style = jax.random.normal(jax.random.key(2), (3, 5))

    def row(x, style):
        w = kernel * style[None, None, :, None]
        if demodulate:
            w = w / jnp.sqrt(jnp.square(w).sum((0, 1, 2), keepdims=True) + 1e-8)
        if not double:
            return lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=LAYOUT)[0]
        # Zeros between the pixels, then the kernel over every place that it meets.
        y = lax.conv_general_dilated(x[None], w, (1, 1), ((2, 2),) * 2, (2, 2), dimension_numbers=LAYOUT)
        return jnp.asarray(upfirdn(y, resample.TAPS, 1, 1, (1, 1), 4.0)[0])

    want = np.stack([row(a, s) for a, s in zip(x, style, strict=True)])
    np.testing.assert_allclose(modulated(x, kernel, style, double, demodulate), want, atol=2e-4)


def test_demodulation_forgets_the_scale_of_the_style():
    x = jax.random.normal(jax.random.key(0), (3, 6, 4, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5, 7))
    style = jax.random.normal(jax.random.key(2), (3, 5))
    once, twice = (modulated(x, kernel, scale * style) for scale in (1.0, 7.0))
    np.testing.assert_allclose(once, twice, rtol=1e-4, atol=1e-5)


def test_a_halving_convolution_is_the_filter_and_a_strided_convolution():
    x = image(8)
    layer = EqualConv(4, halve=True)
    tree = layer.init(jax.random.key(0), x)
    kernel = tree["params"]["kernel"] / np.sqrt(27)
    y = jnp.asarray(upfirdn(x, resample.TAPS, 1, 1, (2, 2), 1.0), jnp.float32)
    want = lax.conv_general_dilated(y, kernel, (2, 2), "VALID", dimension_numbers=LAYOUT)
    np.testing.assert_allclose(layer.apply(tree, x), want, atol=1e-5)
    assert want.shape == (2, 4, 5, 4)
