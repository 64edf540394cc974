"""The chunked readout against the logits formed whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.functional import readout as module
from genjax.functional.readout import readout


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 90, 1 << 22])
def test_losses_and_gradients_are_those_of_the_whole(monkeypatch, smoothing: float, chunk: int):
    monkeypatch.setattr(module, "CHUNK", chunk)
    B, T, W, V = 3, 7, 5, 11
    k = jax.random.split(jax.random.key(0), 5)
    x, table, bias = (jax.random.normal(i, s) for i, s in zip(k, ((B, T, W), (V, W), (V,)), strict=False))
    y = jax.random.randint(k[3], (B, T), 0, V)
    w = jax.random.bernoulli(k[4], 0.6, (B, T)).astype(jnp.float32)

    def whole(x, table, bias):
        logits = x @ table.T + bias[None, None]
        smooth = optax.smooth_labels(jax.nn.one_hot(y, V), smoothing)
        return 2 * (optax.softmax_cross_entropy(logits, smooth) * w).sum()

    ours = lambda x, table, bias: 2 * readout(x, table, bias, y, w, smoothing).loss
    a, g = jax.value_and_grad(whole, (0, 1, 2))(x, table, bias)
    b, h = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(x, table, bias)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(ours(x, table, bias), b, rtol=1e-6)
    for p, q in zip(g, h, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-5)
    got, logits = readout(x, table, bias, y, w, smoothing), x @ table.T + bias[None, None]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    np.testing.assert_allclose(got.nats, (nats * w).sum(), rtol=1e-5)
    assert got.hits == ((logits.argmax(-1) == y) * w).sum()
