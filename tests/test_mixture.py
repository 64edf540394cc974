"""Gaussian mixtures: densities, online EM, samples; and the regularised autoencoder that they complete."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genjax.config import build as made_config
from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.models import mixture, vae
from genjax.training.step import create, make_step

POINT = Element((2,), "float32", kind="point", role="target")
LABEL = Element((), "int32", 2, "label", "condition")


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def drawn(n: int, seed: int = 0) -> dict[str, jax.Array]:
    """Two components of each of two classes."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    which = rng.random(n) < 0.3
    centre = np.stack([np.where(which, -4.0, 4.0), np.where(label == 0, -3.0, 3.0)], -1)
    spread = np.stack([np.full(n, 0.5), np.where(which, 1.0, 0.2)], -1)
    x = centre + spread * rng.normal(size=(n, 2))
    return {
        "x": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "mask": jnp.ones(n),
    }


def model(components: int = 2, conditional: bool = True, spec: Spec | None = None) -> Model:
    spec = spec or Spec({"x": POINT, "label": LABEL})
    return mixture.build(mixture.Config(components=components, conditional=conditional), spec)


def learned(m: Model, steps: int = 150, batch: int = 200) -> Variables:
    optimizers = {"mixture": optax.sgd(0.0)}
    first = drawn(batch)
    state = create(m, optimizers, jax.random.key(0), first)
    assert m.fit is not None
    state = state.replace(variables=jax.jit(m.fit)(state.variables, first, keys(batch)))
    step = jax.jit(make_step(m, optimizers), static_argnums=4)
    for n in range(steps):
        state, _ = step(state, {}, drawn(batch, n), jax.random.key(1), ("nll",))
    return state.variables


def test_a_density_is_scipy_s_mixture():
    m = model(3, conditional=False)
    variables = learned(m, steps=3)
    batch = drawn(50, 7)
    assert m.likelihood is not None
    found, _ = jax.jit(m.likelihood)(variables, batch, keys(50))
    own = m.phases["nll"].objective.__self__  # type: ignore[attr-defined]
    log_weight, mean, factor = jax.tree.map(
        lambda x: np.asarray(x[0], np.float64), own.components(variables.state)
    )
    each = [
        log_weight[k]
        + stats.multivariate_normal(mean[k], factor[k] @ factor[k].T).logpdf(np.asarray(batch["x"]))
        for k in range(3)
    ]
    np.testing.assert_allclose(-found.total, np.logaddexp.reduce(each), rtol=1e-4)
    assert np.exp(log_weight).sum() == pytest.approx(1, rel=1e-5)


def test_online_em_finds_the_components_of_each_class():
    m = model()
    variables = learned(m)
    own = m.phases["nll"].objective.__self__  # type: ignore[attr-defined]
    log_weight, mean, factor = own.components(variables.state)
    for c, height in enumerate((-3.0, 3.0)):
        order = np.argsort(mean[c, :, 0])
        np.testing.assert_allclose(np.exp(log_weight[c])[order], [0.3, 0.7], atol=0.05)
        np.testing.assert_allclose(np.asarray(mean[c])[order], [[-4, height], [4, height]], atol=0.15)
        spread = np.sqrt(np.diagonal(factor[c] @ factor[c].swapaxes(-1, -2), axis1=-2, axis2=-1))[order]
        np.testing.assert_allclose(spread, [[0.5, 1.0], [0.5, 0.2]], rtol=0.2)


def test_samples_are_of_the_class_that_was_asked_for():
    m = model()
    variables = learned(m)
    assert m.sample is not None
    rows = jax.jit(m.sample)(variables, keys(400), {"label": jnp.arange(400) % 2})
    assert rows["x"].shape == (400, 2)
    assert (np.sign(rows["x"][:, 1]) == np.where(np.arange(400) % 2, 1, -1)).mean() > 0.98
    still = jax.jit(lambda v, k: m.sample(v, k, {}, temperature=0.0))(variables, keys(400))
    assert len(np.unique(np.asarray(still["x"]).round(4), axis=0)) == 4


def test_a_masked_row_changes_nothing():
    m = model()
    batch = drawn(6)
    variables = jax.jit(m.init)(jax.random.key(0), batch, {})
    masked = {**batch, "mask": batch["mask"].at[3:].set(0), "x": batch["x"].at[3:].set(jnp.nan)}
    alone = {k: v[:3] for k, v in batch.items()}
    step = jax.jit(lambda b, k: m.phases["nll"].objective(variables, b, k, step=jnp.int32(0)))
    (loss, aux), (expected, right) = step(masked, keys(6)), step(alone, keys(3))
    np.testing.assert_allclose(loss.total, expected.total, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), aux.state, right.state)


def test_data_that_it_cannot_model_is_refused():
    with pytest.raises(ConfigError, match="needs real values"):
        model(spec=Spec({"x": Element((2,), "int32", 5, role="target")}))
    with pytest.raises(ConfigError, match="more than 512"):
        model(spec=Spec({"x": Element((600,), "float32", role="target")}))


SPEC = Spec({"image": Element((8, 8, 1), "uint8", 17, "image", "target")}, rows=10)
RAE = {"network": "mlp", "hidden": (16,), "latent": 3, "posterior": "point", "conditional": False}
RAE |= {"likelihood": "normal", "scale": "fixed", "regulariser": {"kind": "gradient", "weight": 0.5}}


def test_a_regularised_autoencoder_has_codes_and_no_bound_or_sampler():
    m = vae.build(made_config(vae.Config, RAE, "model"), SPEC)
    assert m.sample is None
    assert m.likelihood is None
    assert m.codec is not None
    assert m.codec.nats is None
    for wrong in ({"prior": {"kind": "vamp"}}, {"regulariser": {"kind": "tc", "weight": 1.0}}):
        with pytest.raises(ConfigError, match="posterior"):
            made_config(vae.Config, {**RAE, **wrong}, "model")


def test_the_gradient_penalty_is_the_jacobian_s_norm():
    m = vae.build(made_config(vae.Config, RAE, "model"), SPEC)
    image = np.random.default_rng(0).integers(0, 17, (2, 8, 8, 1))
    batch = {"image": jnp.asarray(image, jnp.uint8), "mask": jnp.ones(2)}
    variables = jax.jit(m.init)(jax.random.key(0), batch, {})
    own = m.phases["vae"].objective.__self__  # type: ignore[attr-defined]
    z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)), jnp.float32)
    decode = lambda z: own.apply(variables, "decode", z[None], jnp.zeros((1, 0)))[0, 0]
    jacobian = jax.jit(jax.vmap(jax.jacfwd(decode)))(z)
    expected = jnp.square(jacobian).sum((1, 2, 3, 4))
    one = lambda seed: own.squared_gradient(variables, batch, z, row_keys(seed, 0, jnp.arange(2)))
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 4000))
    np.testing.assert_allclose(found.mean(0), expected, rtol=0.1)


def test_a_point_s_loss_is_the_error_and_the_norm_of_the_code():
    plain = {**RAE, "regulariser": {"kind": "kl"}, "beta": 0.25}
    m = vae.build(made_config(vae.Config, plain, "model"), SPEC)
    image = np.random.default_rng(0).integers(0, 17, (3, 8, 8, 1))
    batch = {"image": jnp.asarray(image, jnp.uint8), "mask": jnp.ones(3)}
    variables = jax.jit(m.init)(jax.random.key(0), batch, {})
    loss, aux = jax.jit(lambda b: m.phases["vae"].objective(variables, b, keys(3), step=jnp.int32(0)))(batch)
    assert m.codec is not None
    z = m.codec.encode(variables, batch, keys(3))["latent"]
    np.testing.assert_array_equal(z, m.codec.encode(variables, batch)["latent"])
    rate = 0.5 * jnp.square(z).sum()
    np.testing.assert_allclose(aux.metrics["kl"].total, rate, rtol=1e-5)
    np.testing.assert_allclose(loss.total, aux.metrics["distortion"].total + 0.25 * rate, rtol=1e-5)
