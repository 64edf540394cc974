"""BERT's own properties: documents do not see each other, padding is not seen, samples keep what is given."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.models import bert

V, T = 30, 12
TEXT = Spec({"tokens": Element((T,), "int32", V, "tokens", "target")}, special={"mask": 3, "pad": 0})
IMAGE = Spec(
    {
        "image": Element((3, 4, 1), "uint8", 5, "image", "target"),
        "label": Element((), "int32", 2, "label", "condition"),
    }
)


@functools.cache
def made(spec_name: str = "text", position: str = "learned", prenorm: bool = False):
    spec = {"text": TEXT, "image": IMAGE}[spec_name]
    model = bert.build(bert.Config(layers=2, heads=2, width=16, position=position, prenorm=prenorm), spec, {})
    return model, jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))


def keys(n: int) -> jax.Array:
    return jax.random.split(jax.random.key(1), n)


@pytest.mark.parametrize(("position", "prenorm"), [("learned", False), ("rope", True)])
def test_packed_documents_equal_documents_alone(position: str, prenorm: bool):
    model, variables = made("text", position, prenorm)
    predict = jax.jit(model.predict)
    row = jnp.asarray(np.random.default_rng(0).integers(4, V, (1, T)))
    segment = jnp.array([[1] * 5 + [2] * 4 + [0] * 3])
    packed = predict(variables, {"tokens": row, "segment": segment})["logits"]
    first = predict(variables, {"tokens": row[:, :5]})["logits"]
    second = predict(variables, {"tokens": row[:, 5:9]})["logits"]
    np.testing.assert_allclose(packed[:, :5], first, atol=1e-5)
    np.testing.assert_allclose(packed[:, 5:9], second, atol=1e-5)


def test_embeddings_are_means_over_the_row_s_own_tokens():
    model, variables = made()
    rows = jnp.asarray(np.random.default_rng(1).integers(4, V, (2, T)))
    got = model.predict(variables, {"tokens": rows, "length": jnp.array([T, 5])})
    alone = model.predict(variables, {"tokens": rows[1:, :5]})
    np.testing.assert_allclose(got["embedding"][1], alone["embedding"][0], atol=1e-5)
    mean = got["features"][0].mean(0)
    np.testing.assert_allclose(got["embedding"][0], mean / jnp.linalg.norm(mean), atol=1e-5)


def test_the_loss_is_of_text_alone():
    """Rows without text count nothing, nor do padding rows."""
    model, variables = made()
    tokens = jnp.asarray(np.random.default_rng(2).integers(4, V, (4, T))).at[1].set(0)
    batch = {"tokens": tokens, "mask": jnp.array([1.0, 1.0, 0.0, 1.0])}
    loss, _ = model.phases["mlm"].objective(variables, batch, keys(4), step=None)
    assert loss.count == 2 * round(0.15 * T)
    assert model.likelihood is None


def test_samples_keep_what_is_given_and_fill_the_masks():
    model, variables = made()
    prompt = jnp.array([[4, 3, 6, 3], [7, 8, 9, 10]])
    rows = jax.jit(lambda k: model.sample(variables, k, {"tokens": prompt}, steps=3))(keys(2))["tokens"]
    assert rows.shape == (2, T)
    np.testing.assert_array_equal(rows[:, :4][prompt != 3], prompt[prompt != 3])
    assert not np.isin(rows, (0, 3)).any()
    with pytest.raises(ConfigError, match="positions"):
        model.sample(variables, keys(2), {}, length=T + 1)
    with pytest.raises(ConfigError, match="positions"):
        bert.build(bert.Config(layers=1, heads=2, width=16, positions=T - 1), TEXT, {})


def test_images_are_pixels_after_their_label():
    model, variables = made("image")
    batch = {"image": jnp.ones((2, 3, 4, 1), jnp.uint8), "label": jnp.array([0, 1]), "mask": jnp.ones(2)}
    loss, _ = model.phases["mlm"].objective(variables, batch, keys(2), step=None)
    assert loss.count == 2 * round(0.15 * 13)
    rows = model.sample(variables, keys(2), {"label": jnp.array([0, 1])}, steps=3)
    assert rows["image"].shape == (2, 3, 4, 1)
    assert rows["image"].max() < 5
    assert rows["label"].tolist() == [0, 1]


def test_the_bound_of_absorbing_diffusion_is_the_mean_over_all_masks():
    """For rows of four tokens, one of them padding, every set of masks is written out."""
    spec = Spec({"tokens": Element((4,), "int32", 7, "tokens", "target")}, special={"mask": 3, "pad": 0})
    config = bert.Config(layers=1, heads=2, width=16, objective="absorbing", init_std=0.5)
    model = bert.build(config, spec, {})
    variables = model.init(jax.random.key(0), spec.example(1), {})
    row = np.array([5, 4, 6, 0])
    total = 0.0
    for count in (1, 2, 3):
        sets = list(itertools.combinations(range(3), count))
        for hidden in sets:
            seen = row.copy()
            seen[list(hidden)] = 3
            log_p = jax.nn.log_softmax(
                model.predict(variables, {"tokens": jnp.asarray(seen)[None]})["logits"]
            )
            nats = -sum(float(log_p[0, i, row[i]]) for i in hidden)
            # The count of masks is uniform in 1 .. 3, and each masked token weighs 3 / count.
            total += nats * 3 / count / len(sets) / 3
    rows = 6000
    batch = {"tokens": jnp.tile(jnp.asarray(row)[None], (rows, 1)), "mask": jnp.ones(rows).at[0].set(0.0)}
    assert model.likelihood is not None
    assert model.likelihood_kind == "bound"
    nats, _ = jax.jit(lambda b, k: model.likelihood(variables, b, k, terms=3))(batch, keys(rows))
    found = np.asarray(nats.total)[1:]
    assert abs(found.mean() - total) < 5 * found.std() / np.sqrt(rows)
    assert set(np.asarray(nats.count)) == {0.0, 3.0}
    assert float(nats.total[0]) == 0.0
    loss, _ = jax.jit(lambda b, k: model.phases["mlm"].objective(variables, b, k, step=None))(
        batch, keys(rows)
    )
    assert float(loss.count) == 3 * (rows - 1)
    np.testing.assert_allclose(loss.value, total / 3, rtol=0.05)


def test_the_rates_of_bert_are_not_those_of_the_diffusion():
    with pytest.raises(ValueError, match="rate"):
        bert.Config(objective="absorbing", rate=0.3)
    with pytest.raises(ValueError, match="head"):
        bert.Config(objective="absorbing", head=False)
