"""Convolutions beside torch's: the same kernels give the same images and the same gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.conv import conv, conv_transpose

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    ("size", "stride", "pad", "transposed"),
    [
        (1, 1, 0, False),
        (3, 1, 1, False),
        (4, 2, 1, False),
        (5, 2, 2, False),
        (3, 1, 1, True),
        (4, 2, 1, True),
        (2, 2, 0, True),
        (6, 2, 2, True),
    ],
)
def test_values_and_gradients(size, stride, pad, transposed):
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 6, 3)).astype(np.float32)
    k = rng.normal(size=(size, size, 3, 5)).astype(np.float32)
    if transposed:
        f = lambda x, k: conv_transpose(x, k, (stride, stride))
        kernel = k[::-1, ::-1].transpose(2, 3, 0, 1)
        theirs = lambda x, k: F.conv_transpose2d(x, k, stride=stride, padding=pad)
    else:
        f = lambda x, k: conv(x, k, (stride, stride), ((pad, pad), (pad, pad)))
        kernel = k.transpose(3, 2, 0, 1)
        theirs = lambda x, k: F.conv2d(x, k, stride=stride, padding=pad)
    xt = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    kt = torch.tensor(kernel.copy(), requires_grad=True)
    yt = theirs(xt, kt)
    yt.sin().sum().backward()
    y, back = jax.vjp(f, jnp.asarray(x), jnp.asarray(k))
    dx, dk = back(jnp.cos(y))
    assert xt.grad is not None
    assert kt.grad is not None
    back_to_ours = (2, 3, 0, 1) if transposed else (2, 3, 1, 0)
    expected = kt.grad.numpy().transpose(back_to_ours)
    if transposed:
        expected = expected[::-1, ::-1]
    np.testing.assert_allclose(y, yt.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, xt.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dk, expected, rtol=1e-4, atol=1e-4)
