"""Training steps of a VAE, a VQ-VAE and RealNVP against PyTorch: the same losses, codebook and weights."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments.benchmarks import latents
from genjax.core import row_keys

BATCH = 8
NAMES = ("VAE, convolutional", "VQ-VAE", "RealNVP")


@pytest.mark.peers
@pytest.mark.parametrize("name", NAMES)
def test_the_losses_of_six_steps_are_those_of_torch(name: str):
    """The later losses depend on all gradients, on Adam and on the averages of the codebook."""
    model, player, peer, noise, draw = latents.cases(BATCH)[name]
    image = np.random.default_rng(0).integers(0, latents.LEVELS, (BATCH, 28, 28, 1)).astype(np.uint8)
    ours = latents.ours(model, player, image)
    theirs = latents.theirs(peer(ours.start), image, draw, compiled=False)
    found = []
    for n in range(6):
        keys = row_keys(ours.key, n, jnp.arange(BATCH))
        pair = float(ours.step()[ours.loss].value), float(theirs(np.array(noise(keys))))
        found.append(pair)
    found = np.array(found)
    np.testing.assert_allclose(found[0, 0], found[0, 1], rtol=1e-5)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-3)


@pytest.mark.peers
def test_the_averages_of_a_codebook_are_those_of_torch():
    import torch

    model, player, peer, _, _ = latents.cases(BATCH)["VQ-VAE"]
    image = np.random.default_rng(1).integers(0, latents.LEVELS, (BATCH, 28, 28, 1)).astype(np.uint8)
    ours = latents.ours(model, player, image)
    other = peer(ours.start)
    batch = {"image": jnp.asarray(image), "mask": jnp.ones(BATCH)}
    start = jax.tree.map(jnp.asarray, ours.start)
    keys = row_keys(ours.key, 0, jnp.arange(BATCH))
    (phase,) = model.phases.values()
    _, aux = jax.jit(lambda: phase.objective(start, batch, keys, step=jnp.int32(0)))()
    other(torch.tensor(image.transpose(0, 3, 1, 2).astype(np.float32)))
    other.learn()
    book = aux.state["quantiser"]["book_000"]
    for name in ("codes", "count", "total"):
        np.testing.assert_allclose(getattr(book, name), getattr(other, name).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("levels", [(8, 6, 5), (7, 5, 5, 5), (2, 3)])
def test_finite_scalar_quantisation_is_the_papers_code(levels: tuple[int, ...]):
    """Values, numbers of the codes and gradients (Mentzer et al. 2023, appendix A, in torch)."""
    import torch

    from genjax.functional import quantise

    z = np.random.default_rng(0).normal(0, 2, (64, len(levels))).astype(np.float32)
    count = torch.tensor(levels)
    basis = torch.cumprod(torch.tensor([1, *levels[:-1]]), 0)

    def reference(x):
        half = (count - 1) * (1 + 1e-3) / 2
        offset = torch.where(count % 2 == 1, 0.0, 0.5)
        bounded = (x + (offset / half).atanh()).tanh() * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (count // 2)

    x = torch.tensor(z, requires_grad=True)
    q = reference(x)
    q.square().sum().backward()
    index = ((q * (count // 2) + count // 2) * basis).sum(-1).round().long()
    ours = quantise.fsq(jnp.asarray(z), levels)
    slope = jax.grad(lambda v: jnp.square(quantise.fsq(v, levels)).sum())(jnp.asarray(z))
    np.testing.assert_allclose(ours, q.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(quantise.fsq_index(ours, levels), index.numpy())
    np.testing.assert_allclose(slope, x.grad.numpy(), atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels: int):
    from skimage.metrics import structural_similarity

    from genjax.evaluation.similarity import ssim

    rng = np.random.default_rng(0)
    a = rng.uniform(size=(3, 28, 32, channels))
    b = np.clip(a + rng.normal(0, 0.1, a.shape), 0, 1)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    want = [structural_similarity(x, y, channel_axis=-1, **how) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), want, atol=1e-6)
