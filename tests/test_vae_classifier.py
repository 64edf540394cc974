"""The classifier: what it predicts, what it learns from, and what augmentation may touch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Element, Spec, row_keys
from genjax.data import load
from genjax.errors import ConfigError
from genjax.models.classifier import Config, build
from genjax.training.step import create, due, make_step


def test_two_hundred_steps_on_real_digits_read_unseen_ones():
    data = load(name="digits")
    model, opt = build(Config(width=16), data.spec), {"classifier": optax.adam(3e-3)}
    stream = data.train.stream(order="shuffled", batch=64, seed=0)
    state = jax.jit(lambda key: create(model, opt, key, stream[0]))(jax.random.key(0))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    for i in range(200):
        state, _ = step(state, {}, stream[i], jax.random.key(0), due(model, i))
    unseen = data.eval.rows(np.arange(len(data.eval)))
    out = jax.jit(model.predict)(state.variables, unseen)
    assert out["features"].shape == (len(data.eval), 64)
    assert (np.asarray(out["logits"]).argmax(-1) == unseen["label"]).mean() > 0.93
    assert model.sample is None


def test_evaluation_is_cross_entropy_without_augmentation():
    image = Element((8, 8, 1), "uint8", 17, "image", "target")
    model = build(
        Config(width=8, smoothing=0.1),
        Spec({"image": image, "label": Element((), "int32", 3, "label", "condition")}),
    )
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 17, (5, 8, 8, 1)), jnp.uint8),
        "label": jnp.array([0, 1, 2, 0, 1]),
        "mask": jnp.array([1.0, 1, 1, 1, 0]),
    }
    variables = jax.jit(lambda key: model.init(key, batch, {}))(jax.random.key(0))
    objective, keys = model.phases["classifier"].objective, row_keys(jax.random.key(0), 0, jnp.arange(5))
    loss, aux = objective(variables, batch, keys, step=None)
    log_p = jax.nn.log_softmax(model.predict(variables, batch)["logits"])
    expected = -log_p[jnp.arange(4), batch["label"][:4]].mean()
    np.testing.assert_allclose(loss.value, expected, rtol=1e-6)
    hits = log_p.argmax(-1)[:4] == batch["label"][:4]
    np.testing.assert_allclose(aux.metrics["accuracy"].value, hits.mean())
    assert objective(variables, batch, keys, step=jnp.int32(0))[0].value != loss.value


def test_elements_are_found_by_form_and_role():
    image = Element((8, 8, 1), "uint8", 17, None, "target")
    model = build(Config(width=8), Spec({"scan": image, "digit": Element((), "int32", 3, "label")}))
    batch = {"scan": jnp.zeros((2, 8, 8, 1), jnp.uint8), "digit": jnp.array([0, 2]), "mask": jnp.ones(2)}
    variables = jax.jit(lambda key: model.init(key, batch, {}))(jax.random.key(0))
    keys = row_keys(jax.random.key(0), 0, jnp.arange(2))
    loss, _ = model.phases["classifier"].objective(variables, batch, keys, step=None)
    logits = model.predict(variables, {"scan": batch["scan"]})["logits"]
    expected = -jax.nn.log_softmax(logits)[jnp.arange(2), batch["digit"]].mean()
    np.testing.assert_allclose(loss.value, expected, rtol=1e-6)


def test_data_without_labels_is_refused():
    with pytest.raises(ConfigError, match="labels"):
        build(Config(), Spec({"image": Element((8, 8, 1), "uint8", 17, "image", "target")}))
