"""The diffusion model: its U-Net, objective, bound and sampling through the contract."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from genjax.config import build as build_config
from genjax.core import Element, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import schedules
from genjax.models import diffusion
from genjax.nn.dropout import dropout
from genjax.nn.unet import UNet
from genjax.training import step as training

SPEC = Spec(
    {
        "image": Element((8, 8, 1), "uint8", 17, "image", "target"),
        "label": Element((), "int32", 10, "label", "condition"),
    },
    100,
)
TINY = diffusion.Config(width=8, multipliers=(1, 2), blocks=1, timesteps=20, groups=4)


def batch(rows=4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 17, (rows, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 10, rows), jnp.int32),
        "mask": jnp.ones(rows),
    }


def keys(rows=4, seed=0):
    return row_keys(jax.random.key(seed), 0, jnp.arange(rows))


def noisy(variables, seed=9):
    """Random parameters of this form, with no zeros, so that every path of the network matters."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [0.3 * jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves])


class Small(nn.Module):
    """A network in the U-Net's place that compiles in a moment: what surrounds it is what is tested."""

    config: diffusion.Config
    channels: int
    classes: int
    vocabulary: int = 0

    @nn.compact
    def __call__(self, x, t, label, keys=None):
        shift = nn.Embed(self.classes + 1, 1)(jnp.where(label < 0, self.classes, label)) + t[:, None]
        x = x * self.param("scale", nn.initializers.ones, ()) + shift[:, None, None, :]
        return dropout(x, self.config.dropout, keys)


def small(monkeypatch, **fields) -> tuple[Any, Variables]:
    monkeypatch.setattr(diffusion, "Network", Small)
    model = diffusion.build(dataclasses.replace(TINY, **fields), SPEC, {})
    return model, noisy(jax.jit(model.init)(jax.random.key(0), batch(), {}))


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        ((8, 8), {"multipliers": (1, 2)}),
        ((28, 28), {"multipliers": (1, 2, 2), "attention": (14, 7), "blocks": 2}),
        ((28, 28), {"multipliers": (1, 2, 2, 2), "remat": True}),
        ((9, 14), {"multipliers": (1, 1, 2), "dropout": 0.1, "middle_attention": False}),
        ((16, 16), {"dtype": jnp.bfloat16}),
    ],
    ids=str,
)
def test_unet_keeps_the_size_of_any_image(size, fields):
    net = UNet(channels=3, width=8, **fields)
    x, condition = jnp.zeros((2, *size, 3)), jnp.zeros((2, 16))
    out, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), x, condition, keys(2))
    assert (out.shape, out.dtype) == ((2, *size, 3), jnp.float32)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    names = ["/".join(k.key for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    lowest = max(size)
    for _ in fields.get("multipliers", (1, 2))[1:]:
        lowest = -(-lowest // 2)
    attentive = {n.split("/")[1] for n in names if "attention" in n}
    assert ("middle_attention" in attentive) == (lowest not in fields.get("attention", ())) * fields.get(
        "middle_attention", True
    )


def test_no_parameter_is_beyond_the_reach_of_the_loss():
    """Each has a gradient (a bias before a norm would have none, and drift under Adam)."""
    model = diffusion.build(TINY, SPEC, {})
    variables = noisy(jax.eval_shape(model.init, jax.random.key(0), batch(), {}))
    loss = lambda v: (
        model.phases["denoise"].objective(v, batch(16), keys(16), step=jnp.zeros((), int))[0].total
    )
    for path, g in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables)):
        assert float(jnp.abs(g).max()) > 1e-5, path


def test_loss_is_a_sum_of_rows(monkeypatch):
    """Each row's loss depends on that row and its key; padding rows do not count, whatever they hold."""
    model, variables = small(monkeypatch, dropout=0.3)
    objective = jax.jit(
        lambda b, k: model.phases["denoise"].objective(variables, b, k, step=jnp.zeros((), int))[0]
    )
    b, k = batch(6), keys(6)
    whole = objective(b, k)
    assert whole.count == 6
    rows = lambda index: {n: x[index] for n, x in b.items()}
    halves = [objective(rows(i), k[i]) for i in (jnp.array([4, 0, 2]), jnp.array([1, 3, 5]))]
    np.testing.assert_allclose(whole.total, sum(h.total for h in halves), rtol=1e-5)
    masked = objective({**b, "mask": jnp.array([1.0, 0, 1, 0, 1, 0])}, k)
    np.testing.assert_allclose(masked.total, halves[0].total, rtol=1e-5)
    assert masked.count == 3


def test_labels_are_hidden_in_training_alone(monkeypatch):
    model, variables = small(monkeypatch, label_dropout=1.0)
    objective = jax.jit(
        lambda b, step: model.phases["denoise"].objective(variables, b, keys(), step=step)[0].total
    )
    other = {**batch(), "label": (batch()["label"] + 1) % 10}
    assert objective(batch(), jnp.array(0)) == objective(other, jnp.array(0))
    assert objective(batch(), None) != objective(other, None)


class Zero:
    def apply(self, variables, x, t, label, keys=None):
        return jnp.zeros_like(x)


def test_the_objective_is_the_weighted_error_of_the_prediction(monkeypatch):
    """For a network that says 0 (as the U-Net does at first), the loss is the target's own mean square."""
    for prediction, weighting in itertools.product(("noise", "data", "velocity"), ("uniform", "bound")):
        config = dataclasses.replace(TINY, prediction=prediction, weighting=weighting, timesteps=4)
        monkeypatch.setattr(diffusion, "Network", lambda *args, **how: Zero())
        model, zeros = diffusion.build(config, SPEC, {}), Variables(params={"denoiser": {}})
        rows = 512
        b = {"image": jnp.full((rows, 8, 8, 1), 12, jnp.uint8), "mask": jnp.ones(rows)}
        loss, _ = jax.jit(model.phases["denoise"].objective)(zeros, b, keys(rows), step=None)
        alpha, sigma = (np.asarray(c, np.float64) for c in schedules.chain("linear", 4)(jnp.arange(5) / 4))
        snr = alpha[1:] ** 2 / sigma[1:] ** 2
        square = {
            "noise": 1 + 0 * snr,
            "data": 0.25 + 0 * snr,
            "velocity": alpha[1:] ** 2 + sigma[1:] ** 2 / 4,
        }
        per_data = {"noise": snr, "data": 1 + 0 * snr, "velocity": snr + 1}[prediction]
        weight = np.array([0, *(snr[:-1] - snr[1:])]) / 2 / per_data
        weight[0] = weight[1] * (1 if weighting == "bound" else 0)
        weight = weight if weighting == "bound" else 1
        # The time of a row is drawn: 512 rows of 64 pixels, whose variance is that of the four terms.
        terms = weight * square[prediction]
        assert abs(loss.value - terms.mean()) < 5 * (terms.std() + 0.1 * terms.mean()) / np.sqrt(rows)


def gaussian_toy(std=0.2, timesteps=100, levels=17, **fields):
    """A model of one grey pixel whose denoiser is exact for x_0 ~ N(0.1, std^2)."""
    spec = Spec({"image": Element((1, 1, 1), "uint8", levels, "image", "target")}, 1)
    config = diffusion.Config(width=4, multipliers=(1,), blocks=1, groups=1, timesteps=timesteps, **fields)
    path = schedules.chain("linear", timesteps)

    class Exact:
        def __init__(self, *args, **how):
            pass

        def apply(self, variables, x, t, label, keys=None):
            alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in path(t))
            return 0.1 + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * 0.1)

    return spec, dataclasses.replace(config, prediction="data"), Exact


# The exact reverse variances of this Gaussian lie near the large ones; taking the small ones costs
# (r - 1 - log r) / 2 nats a step, r being true over small: about one nat in all, most in the first steps.
@pytest.mark.parametrize(("variance", "gap"), [("small", 1.2), ("large", 0.3)])
def test_the_bound_is_above_the_truth_and_near_it(monkeypatch, variance, gap):
    spec, config, exact = gaussian_toy(variance=variance)
    monkeypatch.setattr(diffusion, "Network", exact)
    model: Any = diffusion.build(config, spec, {})
    levels, rows = 17, 17 * 64
    k = np.arange(rows) % levels
    b = {"image": jnp.asarray(k.reshape(-1, 1, 1, 1), jnp.uint8), "mask": jnp.ones(rows)}
    variables = Variables(params={"denoiser": {}})
    nats, _ = model.likelihood(variables, b, keys(rows), terms=None)
    edges = np.concatenate([[-np.inf], (np.arange(levels - 1) + 0.5) * 2 / 16 - 1, [np.inf]])
    truth = -np.log(np.diff(norm.cdf(edges, 0.1, 0.2)))
    p = np.exp(-truth)
    bound = np.asarray(nats.total).reshape(-1, levels).mean(0)
    entropy, expected = (p * truth).sum(), (p * bound).sum()
    assert model.likelihood_kind == "bound"
    assert entropy < expected < entropy + gap
    assert np.all(nats.count == 1)
    few, _ = model.likelihood(variables, b, keys(rows), terms=16)
    few = np.asarray(few.total).reshape(-1, levels)
    error = np.sqrt((p**2 * few.var(0) / len(few)).sum())
    assert abs((p * few.mean(0)).sum() - expected) < 5 * error
    assert error < 0.5


def test_the_density_of_the_ode_bounds_the_levels(monkeypatch):
    """With uniform noise in each level, whose mean is above -log P(level) by little: levels are narrow."""
    spec, config, exact = gaussian_toy(levels=65, timesteps=1000)
    monkeypatch.setattr(diffusion, "Network", exact)
    model: Any = diffusion.build(config, spec, {})
    levels, rows = 65, 65 * 32
    k = np.arange(rows) % levels
    b = {"image": jnp.asarray(k.reshape(-1, 1, 1, 1), jnp.uint8), "mask": jnp.ones(rows)}
    variables = Variables(params={"denoiser": {}})
    nats, _ = model.likelihood(variables, b, keys(rows), method="ode", steps=100, probes=None)
    edges = np.concatenate([[-np.inf], (np.arange(levels - 1) + 0.5) * 2 / 64 - 1, [np.inf]])
    p = np.diff(norm.cdf(edges, 0.1, 0.2))
    found = np.asarray(nats.total).reshape(-1, levels).mean(0)
    entropy = -(p * np.log(p)).sum()
    assert entropy < (p * found).sum() < entropy + 0.02
    for given in ({"method": "ode", "terms": 8}, {"steps": 9}, {"probes": None}):
        with pytest.raises(ConfigError, match="no effect"):
            model.likelihood(variables, b, keys(rows), **given)


def test_the_bound_masks_padding(monkeypatch):
    model, variables = small(monkeypatch)
    b = {**batch(), "mask": jnp.array([1.0, 1, 0, 0])}
    nats, carry = model.likelihood(variables, b, keys(), terms=2)
    assert carry == {}
    np.testing.assert_array_equal(nats.total[2:], 0)
    np.testing.assert_array_equal(nats.count, [64, 64, 0, 0])
    assert np.all(nats.total[:2] > 0)


def test_samples_are_like_the_data_and_stand_alone(monkeypatch):
    model, variables = small(monkeypatch)
    label = {"label": jnp.array([3, 1, 4, 1])}
    draw = lambda rows: model.sample(
        variables, keys()[rows], {"label": label["label"][rows]}, steps=3, sampler="ddpm", guidance=2.0
    )
    whole, part = draw(jnp.arange(4)), draw(jnp.array([2]))
    assert (whole["image"].shape, whole["image"].dtype) == ((4, 8, 8, 1), jnp.uint8)
    assert whole["image"].max() < 17
    np.testing.assert_array_equal(whole["label"], label["label"])
    assert np.abs(np.int32(whole["image"][2:3]) - np.int32(part["image"])).max() <= 1  # rounding of a level
    count = model.sample._cache_size()
    draw(jnp.array([0, 1, 2, 3]))
    assert model.sample._cache_size() == count


def test_guidance_needs_a_label(monkeypatch):
    model, variables = small(monkeypatch)
    with pytest.raises(ConfigError, match="guidance"):
        model.sample(variables, keys(), {}, steps=2, guidance=2.0)
    assert set(model.sample(variables, keys(), {}, steps=2)) == {"image"}


def test_training_learns_and_compiles_once():
    model = diffusion.build(TINY, SPEC, {})
    optimizers = {"denoiser": optax.adam(3e-3)}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch(32)))(jax.random.key(0))
    step: Any = jax.jit(training.make_step(model, optimizers), static_argnames="phases", donate_argnums=0)
    losses = []
    for _ in range(40):
        state, metrics = step(state, {}, batch(32), jax.random.key(1), phases=("denoise",))
        losses.append(float(metrics["denoise/loss"].value))
    assert step._cache_size() == 1
    assert losses[0] > 0.8
    assert np.mean(losses[-5:]) < 0.7


def test_other_data_and_unknown_keys_are_refused():
    for element in (
        Element((2,), "int32", 5, "tokens", "target"),
        Element((2,), "float32", role="condition"),
    ):
        with pytest.raises(ConfigError, match="thing"):
            diffusion.build(TINY, Spec({"thing": element}), {})
    with pytest.raises(ConfigError, match="multipliers"):
        build_config(diffusion.Config, {"multiplier": (1,)}, "model")
