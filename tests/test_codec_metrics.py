"""Scores of codecs: SSIM by hand, reconstructions of planted codecs, use of codes."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from genjax.core import Codec, Element, Model, Variables
from genjax.data import load
from genjax.evaluation import evaluate
from genjax.evaluation.config import Config
from genjax.evaluation.metrics import codebook
from genjax.evaluation.similarity import ssim

RNG = np.random.default_rng(0)
METRICS = ("reconstruction", "codebook")


def test_ssim_of_equal_images_is_one_and_of_opposite_ones_below_zero():
    x = RNG.uniform(size=(3, 16, 20, 2))
    np.testing.assert_allclose(ssim(x, x), 1, rtol=1e-12)
    assert (ssim(x, 1 - x) < 0).all()
    with pytest.raises(ValueError, match="one shape"):
        ssim(x, x[:, :8])


def test_ssim_of_one_window_is_the_formula():
    x, y = RNG.uniform(size=(2, 1, 11, 11, 1))
    weight = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w = np.outer(weight, weight) / weight.sum() ** 2
    mean = lambda a: (w * a).sum()
    a, b = x[0, ..., 0], y[0, ..., 0]
    va, vb = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
    cov = mean(a * b) - mean(a) * mean(b)
    expected = (2 * mean(a) * mean(b) + 1e-4) * (2 * cov + 9e-4)
    expected /= (mean(a) ** 2 + mean(b) ** 2 + 1e-4) * (va + vb + 9e-4)
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-9)


def planted(levels: int) -> Model:
    """A codec of images with 17 levels that keeps `levels` of them, as one code per pixel."""
    step = 17 / levels

    def spec(data):
        code = Element(data["image"].shape, "int32", levels, role="target")
        return type(data)({**{k: e for k, e in data.elements.items() if k != "image"}, "codes": code})

    def encode(variables, batch, keys=None):
        return {"codes": (batch["image"] / step).astype("int32")}

    def decode(variables, codes):
        return {"image": (codes["codes"] * step).astype("uint8")}

    return Model(init=lambda *a: Variables(), phases={}, codec=Codec(encode, decode, spec))


def scores(levels: int) -> dict[str, float]:
    data = load(name="digits")
    config = Config(metrics=METRICS, samples=100, batch=64)
    found, _ = evaluate(planted(levels), Variables(), data, None, config)
    return {s.name: s.value for s in found}


def test_a_codec_that_keeps_everything_is_perfect_and_a_coarse_one_is_not():
    with jax.numpy_rank_promotion("allow"):
        whole, coarse = scores(17), scores(3)
    assert whole["reconstruction_psnr"] == 100
    assert whole["reconstruction_ssim"] == pytest.approx(1)
    assert whole["code_bits"] == pytest.approx(64 * math.log2(17))
    assert whole["code_use"] == 1
    assert coarse["reconstruction_psnr"] < 20
    assert coarse["reconstruction_ssim"] < 0.9
    assert coarse["reconstruction_frechet"] > whole["reconstruction_frechet"] + 0.1


def test_perplexity_counts_codes_that_are_equally_frequent():
    assert codebook.perplexity(np.array([5, 5, 0, 5])) == pytest.approx(3)
    assert codebook.perplexity(np.array([7, 0, 0])) == pytest.approx(1)
