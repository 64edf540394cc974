"""The VAE keeps the contract: a bound in closed form, rows that do not see each other, labels that matter."""

from __future__ import annotations

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
    image = Element((side, side, 1), "uint8", levels)
    return Spec({"image": image, "label": Element((), "int32", CLASSES)}, rows=100)


def rows(n: int, side: int = 8, levels: int = LEVELS, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, levels, (n, side, side, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32),
        "mask": jnp.ones(n),
    }


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def made(side: int = 8, **fields) -> tuple[Model, Variables]:
    small = {"latent": 3, "width": 8, "hidden": (16,)}
    model = build(Config(**{**small, **fields}), spec(side))
    init = jax.jit(lambda key: model.init(key, rows(2, side), {}))
    return model, init(jax.random.key(1))


def loss(model: Model, variables: Variables, batch, keys):
    return model.plays["vae"].objective(variables, batch, keys, step=jnp.int32(0))


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_every_size_has_the_datas_form_and_gradients_at_every_leaf(side, network):
    model, variables = made(side, network=network)
    batch = rows(2, side)
    out = jax.eval_shape(lambda v: model.sample(v, keys(2), {}), variables)
    assert out["image"].shape == batch["image"].shape
    assert out["image"].dtype == jnp.uint8
    assert out["label"].dtype == jnp.int32
    if side == 8:
        total = lambda p: loss(model, variables.replace(params=p), batch, keys(2))[0].total
        slopes = jax.jit(jax.grad(total))(variables.params)
        assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))


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
    one, variables = made(beta=1.0)
    four, _ = made(beta=4.0)
    a, aux = loss(one, variables, batch, keys(4))
    b, _ = loss(four, variables, batch, keys(4))
    np.testing.assert_allclose(b.value - a.value, 3 * aux.metrics["kl"].value, rtol=1e-3)


def test_padding_rows_count_nothing():
    model, variables = made()
    batch = {**rows(4), "mask": jnp.array([1.0, 1, 1, 0])}
    spoilt = {**batch, "image": batch["image"].at[3].set(16)}
    assert loss(model, variables, batch, keys(4))[0].total == loss(model, variables, spoilt, keys(4))[0].total
    mean, _ = model.likelihood(variables, batch, keys(4))
    np.testing.assert_array_equal(mean.count, [64, 64, 64, 0])
    assert mean.total[3] == 0


def test_kinds_of_likelihood():
    assert made(likelihood="discretised_logistic")[0].likelihood_kind == "bound"
    assert made(likelihood="normal")[0].likelihood_kind == "density"
    # Grey values under a Bernoulli have no likelihood; binary ones do.
    assert made(likelihood="bernoulli")[0].likelihood is None
    binary = build(Config(likelihood="bernoulli"), spec(levels=2))
    assert binary.likelihood is not None
    assert binary.likelihood_kind == "bound"


def test_importance_weighting_tightens_the_bound():
    """E[L_1] <= E[L_K]: Burda et al. 2016, theorem 1. Many keys stand for the expectation."""
    model, _ = made(network="mlp")
    # Posteriors far from the true ones make the gap wide beside the noise.
    step = make_step(model, {"vae": optax.adam(3e-3)})
    state = create(model, {"vae": optax.adam(3e-3)}, jax.random.key(0), rows(32))
    run = jax.jit(step, static_argnums=4)
    for _ in range(60):
        state, _ = run(state, {}, rows(32), jax.random.key(0), due(model, 0))
    batch = jax.tree.map(lambda x: jnp.repeat(x[:8], 64, axis=0), rows(32))
    nats = [
        float(
            jax.jit(lambda k=k: model.likelihood(state.variables, batch, keys(512, 3), samples=k))()[
                0
            ].total.mean()
        )
        for k in (1, 2, 8, 32)
    ]
    assert nats[0] > nats[1] > nats[2] > nats[3]


def test_the_kl_term_is_that_of_the_posterior_drawn_from():
    """The closed form against the moments of many encoded samples of one row."""
    model, variables = made(network="mlp", latent=2)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 4000, axis=0), rows(1))
    z = jax.jit(model.codec.encode)(variables, batch, keys(4000))["latent"]
    mean, var = z.mean(0), z.var(0)
    np.testing.assert_allclose(mean, model.codec.encode(variables, batch)["latent"][0], atol=0.1)
    expected = 0.5 * (var + mean**2 - 1 - jnp.log(var)).sum()
    kl = loss(model, variables, batch, keys(4000))[1].metrics["kl"].value
    np.testing.assert_allclose(kl, expected, rtol=0.1, atol=0.02)


def test_sample_i_depends_on_key_i_alone():
    model, variables = made(network="mlp")
    variables = jax.tree.map(lambda x: 5 * x, variables)
    label = {"label": jnp.arange(4)}
    one = jax.jit(model.sample)(variables, keys(4), label)
    other = jax.jit(model.sample)(variables, keys(4, 7).at[2].set(keys(4)[2]), label)
    np.testing.assert_array_equal(one["image"][2], other["image"][2])
    assert (one["image"][1] != other["image"][1]).any()


def test_samples_follow_their_label():
    model, variables = made(network="mlp")
    # Weights large enough that images differ by more than a level.
    variables = jax.tree.map(lambda x: 5 * x, variables)
    same = jnp.broadcast_to(keys(1), (CLASSES,))
    out = model.sample(variables, same, {"label": jnp.arange(CLASSES)})
    np.testing.assert_array_equal(out["label"], np.arange(CLASSES))
    assert len(np.unique(out["image"].reshape(CLASSES, -1), axis=0)) == CLASSES
    blind, variables = made(conditional=False)
    assert "label" not in blind.sample(variables, same, {})


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
    assert int(image.max()) < LEVELS
    assert len(jnp.unique(image)) > 1


def test_codec_goes_there_and_back_in_the_datas_form():
    model, variables = made()
    batch = rows(4)
    codes = model.codec.encode(variables, batch, keys(4))
    assert codes["latent"].shape == (4, 3)
    again = model.codec.encode(variables, batch)
    assert (codes["latent"] != again["latent"]).any()
    back = model.codec.decode(variables, codes)
    assert back["image"].shape == batch["image"].shape
    assert back["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(back["label"], batch["label"])


def test_training_learns_and_likelihood_compiles_once():
    model, _ = made(network="mlp", latent=8, hidden=(64,))
    opt = {"vae": optax.adam(3e-3)}
    batch = {**rows(16), "label": jnp.arange(16) % CLASSES}
    state = create(model, opt, jax.random.key(0), batch)
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
