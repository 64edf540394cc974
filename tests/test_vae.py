"""The VAE keeps the contract: a bound in closed form, rows that do not see each other, labels that matter."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.models.vae import Config, build
from genjax.training.step import create, due, make_step

LEVELS, CLASSES = 17, 10


def spec(side: int = 8, levels: int = LEVELS) -> Spec:
    image = Element((side, side, 1), "uint8", levels, "image", "target")
    return Spec({"image": image, "label": Element((), "int32", CLASSES, "label", "condition")}, rows=100)


def rows(n: int, side: int = 8, levels: int = LEVELS, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, levels, (n, side, side, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32),
        "mask": jnp.ones(n),
    }


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(side: int = 8, **fields) -> tuple[Model, Variables]:
    small = {"latent": 3, "width": 4, "hidden": (16,)}
    model = build(Config(**{**small, **fields}), spec(side))
    init = jax.jit(lambda key: model.init(key, rows(2, side), {}))
    return model, init(jax.random.key(1))


def loss(model: Model, variables: Variables, batch, keys):
    return model.phases["vae"].objective(variables, batch, keys, step=jnp.int32(0))


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_every_size_has_the_datas_form(side, network):
    model = build(Config(network=network), spec(side))
    batch = rows(2, side)
    variables = jax.eval_shape(lambda key: model.init(key, batch, {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(2), {}), variables)
    assert out["image"].shape == batch["image"].shape
    assert out["image"].dtype == jnp.uint8
    assert out["label"].dtype == jnp.int32
    total, aux = jax.eval_shape(lambda v: loss(model, v, batch, keys(2)), variables)
    assert total.total.shape == ()
    assert set(aux.metrics) == {"distortion", "kl", "bits_per_dim"}


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_every_parameter_has_a_gradient(network):
    model, variables = made(network=network)
    total = lambda p: loss(model, variables.replace(params=p), rows(2), keys(2))[0].total
    slopes = jax.jit(jax.grad(total))(variables.params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(jax.device_get(slopes)))


@pytest.mark.parametrize("likelihood", ["discretised_logistic", "discretised_normal", "normal", "bernoulli"])
@pytest.mark.parametrize("scale", ["pixel", "shared", "fixed"])
def test_the_loss_is_the_bound_and_no_row_sees_another(likelihood, scale):
    model, variables = made(likelihood=likelihood, scale=scale, network="mlp")
    batch = rows(4)
    objective = jax.jit(lambda b: loss(model, variables, b, keys(4)))
    whole, aux = objective(batch)
    assert jnp.isfinite(whole.total)
    parts = aux.metrics["distortion"].value + aux.metrics["kl"].value
    np.testing.assert_allclose(whole.value, parts, rtol=1e-6)
    # Rows summed one at a time (the others masked), and with other pixels beside them.
    single = [objective({**batch, "mask": jnp.eye(4)[i]})[0] for i in range(4)]
    np.testing.assert_allclose(sum(m.total for m in single), whole.total, rtol=1e-5)
    other = {**batch, "image": batch["image"].at[1:].set(0), "mask": jnp.eye(4)[0]}
    np.testing.assert_allclose(objective(other)[0].total, single[0].total, rtol=1e-6)


def test_beta_weighs_the_kl_term_alone():
    batch = rows(4)
    one, variables = made(beta=1.0, network="mlp")
    four, _ = made(beta=4.0, network="mlp")
    (a, aux), (b, _) = jax.jit(lambda v: [loss(m, v, batch, keys(4)) for m in (one, four)])(variables)
    np.testing.assert_allclose(b.value - a.value, 3 * aux.metrics["kl"].value, rtol=1e-3)


def test_padding_rows_count_nothing():
    model, variables = made(network="mlp")
    batch = {**rows(4), "mask": jnp.array([1.0, 1, 1, 0])}
    spoilt = {**batch, "image": batch["image"].at[3].set(16)}
    objective = jax.jit(lambda b: loss(model, variables, b, keys(4))[0])
    assert objective(batch).total == objective(spoilt).total
    assert objective(batch).count == 3
    mean, _ = jax.jit(model.likelihood)(variables, batch, keys(4))
    np.testing.assert_array_equal(mean.count, [64, 64, 64, 0])
    assert mean.total[3] == 0


def test_kinds_of_likelihood():
    assert build(Config(likelihood="discretised_logistic"), spec()).likelihood_kind == "bound"
    assert build(Config(likelihood="normal"), spec()).likelihood_kind == "density"
    # Grey values under a Bernoulli have no likelihood; binary ones do.
    assert build(Config(likelihood="bernoulli"), spec()).likelihood is None
    binary = build(Config(likelihood="bernoulli"), spec(levels=2))
    assert binary.likelihood is not None
    assert binary.likelihood_kind == "bound"


def test_importance_weighting_tightens_the_bound():
    """E[L_1] <= E[L_K]: Burda et al. 2016, theorem 1. Many keys stand for the expectation."""
    model, variables = made(network="mlp")
    # Weights so large that the posterior is far from the true one: a gap wide beside the noise.
    variables = jax.tree.map(lambda x: 2 * x, variables)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 64, axis=0), rows(8))
    bounds = jax.jit(
        lambda v: [model.likelihood(v, batch, keys(512, 3), samples=k)[0].total.mean() for k in (1, 2, 8, 32)]
    )
    nats = [float(x) for x in bounds(variables)]
    assert nats[0] > nats[1] > nats[2] > nats[3]
    with_many = jax.jit(lambda v: model.likelihood(v, batch, keys(512, 3), samples=1)[0].total.std())
    assert nats[0] - nats[3] > 3 * float(with_many(variables)) / 512**0.5


def test_the_kl_term_is_that_of_the_posterior_drawn_from():
    """The closed form against the moments of many encoded samples of one row."""
    model, variables = made(network="mlp", latent=2)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 4000, axis=0), rows(1))
    variables = jax.tree.map(lambda x: 2 * x, variables)
    z, centre, kl = jax.device_get(
        jax.jit(
            lambda v: (
                model.codec.encode(v, batch, keys(4000))["latent"],
                model.codec.encode(v, batch)["latent"][0],
                loss(model, v, batch, keys(4000))[1].metrics["kl"].value,
            )
        )(variables)
    )
    mean, var = z.mean(0), z.var(0)
    np.testing.assert_allclose(mean, centre, atol=0.1)
    expected = 0.5 * (var + mean**2 - 1 - np.log(var)).sum()
    assert expected > 0.1
    np.testing.assert_allclose(kl, expected, rtol=0.1, atol=0.02)


def test_sample_i_depends_on_key_i_alone():
    model, variables = made(network="mlp")
    variables = jax.tree.map(lambda x: 5 * x, variables)
    label = {"label": jnp.arange(4)}
    sample = jax.jit(lambda k: model.sample(variables, k, label, noise=True)["image"])
    one, other = jax.device_get((sample(keys(4)), sample(keys(4, 7).at[2].set(keys(4)[2]))))
    np.testing.assert_array_equal(one[2], other[2])
    assert (one[1] != other[1]).any()


def test_samples_follow_their_label():
    model, variables = made(network="mlp")
    # Weights large enough that images differ by more than a level.
    variables = jax.tree.map(lambda x: 5 * x, variables)
    same = jnp.broadcast_to(keys(1), (CLASSES,))
    out = jax.device_get(jax.jit(model.sample)(variables, same, {"label": jnp.arange(CLASSES)}))
    np.testing.assert_array_equal(out["label"], np.arange(CLASSES))
    assert len(np.unique(out["image"].reshape(CLASSES, -1), axis=0)) == CLASSES
    blind, variables = made(conditional=False, network="mlp")
    assert "label" not in jax.eval_shape(lambda v: blind.sample(v, same, {}), variables)


def test_unprompted_labels_are_spread_evenly():
    model, variables = made(network="mlp")
    label = jax.jit(lambda k: model.sample(variables, k, {})["label"])(keys(2000))
    np.testing.assert_allclose(np.bincount(label, minlength=CLASSES) / 2000, 0.1, atol=0.03)


@pytest.mark.parametrize("likelihood", ["discretised_logistic", "discretised_normal", "bernoulli"])
def test_noisy_samples_are_levels_about_the_decoders_mean(likelihood):
    model, variables = made(likelihood=likelihood, network="mlp")
    draw = jax.jit(lambda k: model.sample(variables, k, {}, noise=True)["image"])
    image = draw(keys(64))
    assert image.dtype == jnp.uint8
    values = np.unique(image)
    assert len(values) > 1
    assert values.max() < LEVELS
    if likelihood == "bernoulli":
        np.testing.assert_array_equal(values, [0, LEVELS - 1])


def test_codec_goes_there_and_back_in_the_datas_form():
    model, variables = made(network="mlp")
    batch = rows(4)
    codes = jax.jit(model.codec.encode)(variables, batch, keys(4))
    assert codes["latent"].shape == (4, 3)
    again = jax.jit(model.codec.encode)(variables, batch)
    assert (np.asarray(codes["latent"]) != np.asarray(again["latent"])).any()
    back = jax.jit(model.codec.decode)(variables, codes)
    assert back["image"].shape == batch["image"].shape
    assert back["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(back["label"], batch["label"])


def test_training_learns_and_likelihood_compiles_once():
    model, _ = made(network="mlp", latent=8, hidden=(64,))
    opt = {"vae": optax.adam(3e-3)}
    batch = {**rows(16), "label": jnp.arange(16) % CLASSES}
    state = jax.jit(lambda key: create(model, opt, key, batch))(jax.random.key(0))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    for _ in range(200):
        state, metrics = step(state, {}, batch, jax.random.key(0), due(model, 0))
    # Uniform noise costs log2(17) = 4.09 bits a pixel to anyone who has not memorised it.
    assert metrics["vae/bits_per_dim"].value < math.log2(LEVELS) - 0.5
    traces = []

    @jax.jit
    def nats(v, b, k):
        traces.append(1)
        return model.likelihood(v, b, k, samples=2)[0]

    a, b = nats(state.variables, batch, keys(16)), nats(state.variables, rows(16, seed=4), keys(16, 1))
    assert len(traces) == 1
    assert a.total.sum() < b.total.sum()


def test_data_without_images_is_refused():
    with pytest.raises(ConfigError, match="tokens"):
        build(Config(), Spec({"tokens": Element((5,), "int32", 7)}))
