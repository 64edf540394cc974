"""Bounds and regularisers against pythae's losses, on the same draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from pythae.models import CIWAE, IWAE, MIWAE, PIWAE, VAMP, WAE_MMD, BetaTCVAE

from genjax.functional import aggregate, bounds, likelihoods
from genjax.nn import priors

pytestmark = pytest.mark.peers

B, D, Z = 5, 7, 3
M, K = 2, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pair(x: np.ndarray) -> tuple[jax.Array, torch.Tensor]:
    x = x.astype(np.float32)
    return jnp.asarray(x), torch.tensor(x, requires_grad=True)


def drawn(rng: np.random.Generator, *draws: int) -> dict[str, tuple[jax.Array, torch.Tensor]]:
    """Arrays (B, *draws, .) as pythae has them: reconstructions, and posteriors repeated over the draws."""
    shape = (B, *draws)
    return {
        "x": pair(rng.uniform(size=(B, D))),
        "recon": pair(rng.uniform(size=(*shape, D))),
        "mean": pair(rng.normal(size=(*shape, Z))),
        "log_var": pair(rng.normal(size=(*shape, Z)) - 1),
        "z": pair(rng.normal(size=(*shape, Z))),
    }


def log_weights(x, recon, mean, log_var, z) -> jax.Array:
    """log p(x | z) + log p(z) - log q(z | x) up to pythae's constants: a unit-variance decoder."""
    wide = x.reshape(B, *(1,) * (recon.ndim - 2), D)
    log_p = -0.5 * jnp.square(recon - wide).sum(-1) - 0.5 * jnp.square(z).sum(-1)
    log_q = likelihoods.normal(mean, 0.5 * log_var, z) + 0.5 * np.log(2 * np.pi)
    return log_p - log_q.sum(-1)


def theirs(cls: Any, data: dict, **fields: Any) -> tuple[torch.Tensor, ...]:
    config = SimpleNamespace(reconstruction_loss="mse")
    self = SimpleNamespace(model_config=config, **fields)
    arguments = [data[k][1] for k in ("recon", "x", "mean", "log_var", "z")]
    return cls.loss_function(self, *arguments)


def assert_same_gradients(ours: Any, data: dict, loss: torch.Tensor, names: tuple[str, ...]) -> None:
    for name in names:
        data[name][1].grad = None
    loss.backward(retain_graph=True)
    given = {k: v[0] for k, v in data.items()}
    slopes = jax.grad(lambda part: ours(log_weights(**{**given, **part})))({n: given[n] for n in names})
    for name in names:
        grad = data[name][1].grad
        assert grad is not None
        np.testing.assert_allclose(slopes[name], grad.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


GENERATIVE, INFERENCE = ("recon",), ("mean", "log_var", "z")


def test_iwae(rng):
    data = drawn(rng, K)
    loss, *_ = theirs(IWAE, data, n_samples=K)
    ours = lambda w: -bounds.Bound("iwae", samples=K).value(w.T[None]).mean()
    assert_same_gradients(ours, data, loss, (*GENERATIVE, *INFERENCE))


def test_ciwae(rng):
    data = drawn(rng, K)
    loss, *_ = theirs(CIWAE, data, n_samples=K, beta=0.3)
    ours = lambda w: -bounds.Bound("ciwae", samples=K, share=0.3).value(w.T[None]).mean()
    assert_same_gradients(ours, data, loss, (*GENERATIVE, *INFERENCE))


def test_miwae(rng):
    """pythae normalises the weights over the first axis of draws and averages over the second."""
    data = drawn(rng, K, M)
    loss, *_ = theirs(MIWAE, data, n_samples=M, gradient_n_estimates=K)
    ours = lambda w: -bounds.Bound("miwae", samples=K, groups=M).value(w.transpose(2, 1, 0)).mean()
    assert_same_gradients(ours, data, loss, (*GENERATIVE, *INFERENCE))


def test_piwae(rng):
    """The first loss is the encoder's, the second the decoder's."""
    data = drawn(rng, K, M)
    encoder, decoder, *_ = theirs(PIWAE, data, n_samples=M, gradient_n_estimates=K)
    bound = bounds.Bound("piwae", samples=K, groups=M)
    order = lambda w: w.transpose(2, 1, 0)
    assert_same_gradients(lambda w: -bound.encoder_value(order(w)).mean(), data, encoder, INFERENCE)
    assert_same_gradients(lambda w: -bound.value(order(w)).mean(), data, decoder, GENERATIVE)


def test_beta_tc(rng):
    data = drawn(rng)
    alpha, beta, gamma, rows = 1.0, 6.0, 1.0, 50
    self = {"alpha": alpha, "beta": beta, "gamma": gamma, "use_mss": False}
    density = lambda *a: BetaTCVAE._compute_log_gauss_density(None, *a)  # type: ignore[arg-type]
    config = SimpleNamespace(reconstruction_loss="mse")
    self = SimpleNamespace(model_config=config, _compute_log_gauss_density=density, **self)
    arguments = [data[k][1] for k in ("recon", "x", "mean", "log_var", "z")]
    _, _, kl = BetaTCVAE.loss_function(self, *arguments, rows)
    kl.backward()

    def ours(mean, log_var, z):
        log_std = 0.5 * log_var
        parts = aggregate.kl_parts(z, mean, log_std, mean, log_std, jnp.ones(B), rows)
        return (alpha * parts.information + beta * parts.correlation + gamma * parts.dimensions).mean()

    given = [data[k][0] for k in ("mean", "log_var", "z")]
    value, slopes = jax.value_and_grad(ours, (0, 1, 2))(*given)
    np.testing.assert_allclose(value, kl.detach().numpy(), rtol=1e-5)
    for name, slope in zip(("mean", "log_var", "z"), slopes, strict=True):
        np.testing.assert_allclose(slope, data[name][1].grad.numpy(), rtol=1e-4, atol=1e-5)


def test_mmd(rng):
    (x, x2), (y, y2) = pair(rng.normal(size=(B, Z))), pair(rng.normal(size=(B, Z)))
    scales = [0.1, 1.0, 5.0]
    config = SimpleNamespace(latent_dim=Z, kernel_bandwidth=1.0, reg_weight=1.0)
    self = SimpleNamespace(
        model_config=config, scales=scales, kernel_choice="imq", reconstruction_loss_scale=1.0
    )
    self.imq_kernel = lambda a, b: WAE_MMD.imq_kernel(self, a, b)  # type: ignore[arg-type]
    image = torch.zeros(B, D)
    _, _, mmd = WAE_MMD.loss_function(self, image, image, x2, y2)  # type: ignore[arg-type]
    got = aggregate.mmd(x, y, jnp.ones(B), tuple(scales))
    np.testing.assert_allclose(got, mmd.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_vamp(rng):
    (z, z2), (mean, mean2), (log_var, log_var2) = (pair(rng.normal(size=s)) for s in ((B, Z), (K, Z), (K, Z)))
    output = SimpleNamespace(embedding=mean2, log_covariance=log_var2)
    self = SimpleNamespace(
        number_components=K,
        pseudo_inputs=lambda idle: torch.zeros(K, D),
        idle_input=torch.eye(K),
        model_config=SimpleNamespace(input_dim=(D,)),
        encoder=lambda x: output,
    )
    found = VAMP._log_p_z(self, z2)  # type: ignore[arg-type]
    ours = priors.mixture_log_prob(z, mean, 0.5 * log_var)
    # pythae leaves out the normal's constant.
    np.testing.assert_allclose(ours + 0.5 * Z * np.log(2 * np.pi), found.detach().numpy().ravel(), rtol=1e-5)
