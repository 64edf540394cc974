"""The VAE as the codec of a later stage: the spec of its codes, vectors and maps, nats beyond the codes."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.models.vae import Config, build

LEVELS, CLASSES, LATENT = 17, 10, 3
FORMS = {"vector": {"network": "mlp"}, "map": {"spatial": True}}
SHAPES = {"vector": (LATENT,), "map": (4, 4, LATENT)}


def spec() -> Spec:
    elements = {
        "index": Element((), "int32"),
        "scan": Element((8, 8, 1), "uint8", LEVELS, "image", "target"),
        "digit": Element((), "int32", CLASSES, "label", "condition"),
    }
    return Spec(elements, rows=100, paired=True)


def rows(n: int, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.arange(n),
        "scan": jnp.asarray(rng.integers(0, LEVELS, (n, 8, 8, 1)), jnp.uint8),
        "digit": jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32),
        "mask": jnp.ones(n),
    }


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(form: str, **fields) -> tuple[Model, Variables]:
    model = build(Config(**{"latent": LATENT, "width": 4, "hidden": (16,), **FORMS[form], **fields}), spec())
    variables = jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(1))
    return model, jax.tree.map(lambda x: 2 * x, variables)


def log_prior(z: jax.Array) -> jax.Array:
    """log N(z; 0, 1) per row."""
    density = -0.5 * jnp.square(z) - 0.5 * math.log(2 * math.pi)
    return density.reshape(z.shape[0], -1).sum(1)


@pytest.mark.parametrize("form", FORMS)
def test_the_spec_of_the_codes_is_what_encode_returns(form):
    model, variables = made(form)
    codes = model.codec.spec(spec())
    assert list(codes.elements) == ["index", "latent", "digit"]
    assert codes.targets == ("latent",)
    assert codes["latent"] == Element(SHAPES[form], "float32", None, None, "target")
    assert (codes["digit"], codes.rows, codes.paired) == (spec()["digit"], 100, True)
    out = jax.eval_shape(lambda v: model.codec.encode(v, rows(4), keys(4)), variables)
    assert set(out) == {*codes.elements, "mask"}
    assert out["latent"].shape == (4, *codes["latent"].shape)
    back = jax.eval_shape(lambda v: model.codec.decode(v, codes.example(4)), variables)
    assert back["scan"].shape == (4, 8, 8, 1)
    assert back["scan"].dtype == jnp.uint8


@pytest.mark.parametrize("form", FORMS)
def test_encoding_without_keys_is_the_posteriors_mean(form):
    model, variables = made(form)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 500, axis=0), rows(1))
    drawn, mean = jax.device_get(
        jax.jit(lambda v: (model.codec.encode(v, batch, keys(500)), model.codec.encode(v, batch)))(variables)
    )
    np.testing.assert_array_equal(mean["latent"][0], mean["latent"][1])
    error = drawn["latent"].std(0) / math.sqrt(500)
    assert (error > 0).all()
    assert (np.abs(drawn["latent"].mean(0) - mean["latent"][0]) < 5 * error).all()


@pytest.mark.parametrize("form", FORMS)
def test_nats_and_the_prior_are_the_bound_on_average(form):
    """E[nats - log N(z; 0, 1)] is the ELBO, whose KL is in closed form there."""
    model, variables = made(form)
    n = 2000
    batch = jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), rows(1))

    @jax.jit
    def both(v):
        codes = model.codec.encode(v, batch, keys(n))
        ours = model.codec.nats(v, batch, codes, keys(n, 5)) - log_prior(codes["latent"])
        return ours, model.likelihood(v, batch, keys(n))[0].total

    ours, elbo = (np.asarray(x, np.float64) for x in both(variables))
    assert ours.std() > 0
    # Both have the same distortion for the same draw: only the estimate of the KL differs.
    difference = ours - elbo
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(n)
    assert difference.std() > 0


@pytest.mark.parametrize("form", FORMS)
def test_nats_and_the_prior_are_the_importance_weight_of_the_same_noise(form):
    model, variables = made(form)
    batch = rows(4)
    total = jax.jit(lambda v: model.likelihood(v, batch, keys(4), samples=2)[0].total)(variables)

    @jax.jit
    def weight(v, k):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys(4), k)
        codes = model.codec.encode(v, batch, own)
        return log_prior(codes["latent"]) - model.codec.nats(v, batch, codes, own)

    weights = jnp.stack([weight(variables, k) for k in range(2)])
    np.testing.assert_allclose(total, -(jax.nn.logsumexp(weights, 0) - math.log(2)), rtol=1e-5)


def test_maps_have_gradients_everywhere_and_depend_on_the_label():
    model, variables = made("map")
    total = lambda p: (
        model.phases["vae"]
        .objective(variables.replace(params=p), rows(2), keys(2), step=jnp.int32(0))[0]
        .total
    )
    slopes = jax.device_get(jax.jit(jax.grad(total))(variables.params))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
    same = jnp.broadcast_to(keys(1), (CLASSES,))
    loud = jax.tree.map(lambda x: 3 * x, variables)
    out = jax.jit(model.sample)(loud, same, {"digit": jnp.arange(CLASSES)})
    assert len(np.unique(np.asarray(out["scan"]).reshape(CLASSES, -1), axis=0)) == CLASSES


def test_grey_values_under_a_bernoulli_have_no_nats():
    assert made("vector", likelihood="bernoulli")[0].codec.nats is None


def test_decoding_without_the_label_that_the_model_needs_is_refused():
    model, variables = made("vector")
    with pytest.raises(ConfigError, match="digit"):
        model.codec.decode(variables, {"latent": jnp.zeros((2, LATENT))})


def test_maps_need_convolutions():
    with pytest.raises(ValueError, match="conv"):
        Config(network="mlp", spatial=True)
