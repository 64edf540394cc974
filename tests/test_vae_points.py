"""The VAE of real values: its density, its draws, and as the second stage over the codes of another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import compose
from genjax.core import Element, Mean, Spec, row_keys
from genjax.errors import ConfigError
from genjax.models.vae import Config, build

SPEC = Spec({"x": Element((2,), "float32", role="target")}, rows=100)
FIELDS = {"network": "mlp", "likelihood": "normal", "hidden": (16,), "latent": 2, "smallest": 0.01}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def test_the_importance_weighted_density_integrates_to_one():
    model = build(Config(**FIELDS, sigma=0.5, scale="fixed"), SPEC)
    variables = jax.jit(lambda k: model.init(k, SPEC.example(2), {}))(jax.random.key(1))
    # Near the prior, the posterior of an untrained encoder is a fair proposal for every x.
    variables = variables.replace(params=jax.tree.map(lambda p: 0.5 * p, variables.params))
    side = jnp.linspace(-6, 6, 61)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    batch = {"x": grid, "mask": jnp.ones(len(grid))}
    nats = jax.jit(lambda: model.likelihood(variables, batch, keys(len(grid)), samples=256)[0].total)()
    total = np.exp(-np.asarray(nats, np.float64)).sum() * 0.2**2
    assert total == pytest.approx(1, abs=0.03)
    assert model.likelihood_kind == "density"


def test_draws_have_the_spread_of_the_decoder_and_locations_do_not():
    model = build(Config(**FIELDS, sigma=0.5, scale="fixed"), SPEC)
    variables = jax.jit(lambda k: model.init(k, SPEC.example(2), {}))(jax.random.key(1))
    draw = lambda **how: np.asarray(jax.jit(lambda: model.sample(variables, keys(2000), {}, **how)["x"])())
    noise = draw() - draw(noise=False)
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(draw(), draw(noise=True))


def test_two_stages_bound_the_data():
    image = Element((8, 8, 1), "uint8", 17, "image", "target")
    spec = Spec({"image": image}, rows=100)
    first = build(Config(network="mlp", hidden=(16,), latent=3), spec)
    batch = {**spec.example(4), "mask": jnp.ones(4)}
    codec = jax.jit(lambda k: first.init(k, batch, {}))(jax.random.key(0))
    second = build(Config(**FIELDS), first.codec.spec(spec))
    model = compose.latent(second, first, spec)
    assert model.likelihood_kind == "bound"
    assert model.rate_distortion is None  # real-valued codes: the prior's nats alone are no rate
    variables = jax.jit(lambda k: model.init(k, batch, {"codec": codec}))(jax.random.key(1))
    mean: Mean = jax.jit(lambda: model.likelihood(variables, batch, keys(4))[0])()
    assert jnp.isfinite(mean.total).all()
    assert jax.jit(lambda: model.sample(variables, keys(4), {})["image"])().shape == (4, 8, 8, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "conv", "hidden": (400,)},
        {"likelihood": "discretised_logistic"},
        {"prior": {"kind": "vamp"}},
    ],
)
def test_what_real_values_cannot_have_is_refused(fields: dict):
    from genjax.config import build as made

    with pytest.raises(ConfigError, match="x has real values"):
        build(made(Config, {**FIELDS, **fields}, "model"), SPEC)


def test_a_mixture_of_many_channels_is_refused():
    spec = Spec({"image": Element((8, 8, 4), "uint8", 17, "image", "target")}, rows=100)
    with pytest.raises(ConfigError, match="4 channels per pixel"):
        build(Config(likelihood="discretised_logistic_mixture"), spec)
