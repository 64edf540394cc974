"""The pieces of the variational bound against torch.distributions, and the MLP VAE against torch's layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import distributions as D

from genjax.core import Element, Spec, row_keys
from genjax.functional import likelihoods, pixels
from genjax.functional.divergences import kl_categorical, kl_normal
from genjax.models import vae

pytestmark = pytest.mark.peers

LEVELS = 17


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def both(x: np.ndarray) -> tuple[jax.Array, torch.Tensor]:
    """The same float32 numbers, and a leaf that torch differentiates."""
    x = x.astype(np.float32)
    return jnp.asarray(x), torch.tensor(x, requires_grad=True)


def assert_same(ours, arguments, theirs: torch.Tensor, leaves, tolerance: float = 2e-5) -> None:
    """Values and the gradients of their sum agree."""
    np.testing.assert_allclose(ours(*arguments), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)
    slopes = jax.grad(lambda a: ours(*a).sum())(arguments)
    theirs.sum().backward()
    for slope, leaf in zip(slopes, leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(slope, leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_kl_of_normals(rng):
    m, m2 = both(rng.normal(size=(5, 3)))
    s, s2 = both(rng.normal(size=(5, 3)))
    q, q2 = both(rng.normal(size=(5, 3)))
    t, t2 = both(rng.normal(size=(5, 3)))
    theirs = D.kl_divergence(D.Normal(m2, s2.exp()), D.Normal(q2, t2.exp()))
    assert_same(kl_normal, (m, s, q, t), theirs, (m2, s2, q2, t2))


def test_kl_of_categoricals(rng):
    p, p2 = both(rng.normal(size=(4, 6)))
    q, q2 = both(rng.normal(size=(4, 6)))
    theirs = D.kl_divergence(D.Categorical(logits=p2), D.Categorical(logits=q2))
    ours = lambda p, q: kl_categorical(jax.nn.log_softmax(p), jax.nn.log_softmax(q))
    assert_same(ours, (p, q), theirs, (p2, q2))


def test_normal_and_bernoulli(rng):
    m, m2 = both(rng.normal(size=40))
    s, s2 = both(rng.normal(size=40))
    x = rng.normal(size=40).astype(np.float32)
    theirs = D.Normal(m2, s2.exp()).log_prob(torch.tensor(x))
    assert_same(lambda m, s: likelihoods.normal(m, s, jnp.asarray(x)), (m, s), theirs, (m2, s2))
    a, a2 = both(10 * rng.normal(size=40))
    for grey in (rng.integers(0, 2, 40), rng.uniform(size=40)):
        grey = grey.astype(np.float32)
        a2.grad = None
        theirs = D.Bernoulli(logits=a2, validate_args=False).log_prob(torch.tensor(grey))
        assert_same(lambda a, g=grey: likelihoods.bernoulli(a, jnp.asarray(g)), (a,), theirs, (a2,))


@pytest.mark.parametrize("name", ["discretised_logistic", "discretised_normal"])
def test_discretised(rng, name):
    """Differences of torch's distribution functions in float64, where they have not cancelled."""
    mean, log_scale = rng.uniform(-1, 1, 200), rng.uniform(-3, 0, 200)
    level = rng.integers(0, LEVELS, 200)
    m, s = torch.tensor(mean, requires_grad=True), torch.tensor(log_scale, requires_grad=True)
    if name == "discretised_normal":
        base: D.Distribution = D.Normal(m, s.exp())
    else:
        uniform = D.Uniform(torch.zeros(200).double(), torch.ones(200).double())
        base = D.TransformedDistribution(
            uniform, [D.SigmoidTransform().inv, D.AffineTransform(loc=m, scale=s.exp())]
        )
    value, half = torch.tensor(2.0 * level / (LEVELS - 1) - 1), 1.0 / (LEVELS - 1)
    top = torch.where(torch.tensor(level == LEVELS - 1), torch.ones(200).double(), base.cdf(value + half))
    bottom = torch.where(torch.tensor(level == 0), torch.zeros(200).double(), base.cdf(value - half))
    keep = (top - bottom).detach().numpy() > 1e-9
    assert keep.mean() > 0.5
    theirs = (top - bottom)[torch.tensor(keep)].log()
    f = getattr(likelihoods, name)
    ours = lambda m, s: f(m, s, jnp.asarray(level), LEVELS)[np.flatnonzero(keep)]
    arguments = jnp.float32(mean), jnp.float32(log_scale)
    assert_same(ours, arguments, theirs, (m, s), tolerance=1e-3)


def test_the_bernoulli_vae_is_torchs(rng):
    """One model, its own weights: loss and every gradient, from the same noise."""
    spec = Spec({"image": Element((8, 8, 1), "uint8", LEVELS, "image", "target")})
    model = vae.build(vae.Config(latent=3, network="mlp", hidden=(16,), likelihood="bernoulli"), spec)
    image = jnp.asarray(rng.integers(0, LEVELS, (5, 8, 8, 1)), jnp.uint8)
    batch = {"image": image, "mask": jnp.ones(5)}
    variables = jax.jit(lambda key: model.init(key, batch, {}))(jax.random.key(0))
    keys = row_keys(jax.random.key(1), 0, jnp.arange(5))
    noise = torch.tensor(np.array(jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys)))

    p = jax.tree.map(lambda x: torch.tensor(np.array(x), requires_grad=True), variables.params["vae"])
    dense = lambda q, x: x @ q["kernel"] + q["bias"]
    silu = torch.nn.functional.silu
    x = torch.tensor(np.array(pixels.to_unit(image, LEVELS))).flatten(1)
    h = silu(dense(p["encoder"]["body"]["dense_0"], x))
    mean, log_std = dense(p["encoder"]["posterior"], h).chunk(2, -1)
    posterior = D.Normal(mean, log_std.exp())
    h = silu(dense(p["decoder"]["body"]["dense_0"], mean + log_std.exp() * noise))
    seen = D.Bernoulli(logits=dense(p["decoder"]["out"], h), validate_args=False)
    rate = D.kl_divergence(posterior, D.Normal(0.0, 1.0)).sum(-1)
    elbo = seen.log_prob(x).sum(-1) - rate
    (-elbo.mean()).backward()

    def ours(params):
        w = variables.replace(params=params)
        return model.phases["vae"].objective(w, batch, keys, step=jnp.int32(0))[0].value

    value, slopes = jax.jit(jax.value_and_grad(ours))(variables.params)
    np.testing.assert_allclose(value, -elbo.mean().item(), rtol=1e-5)
    for path, g in jax.tree_util.tree_leaves_with_path(slopes["vae"]):
        leaf = p
        for key in path:
            leaf = leaf[key.key]
        np.testing.assert_allclose(
            g, leaf.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        )
